-- Starts the time-to-live anew. It never makes a grant and never shortens one (R7).
-- KEYS: 1 holders  2 ends
-- ARGV: 1 token  2 fence  3 ttl ms
-- Answers 1 when renewed, 0 when the grant does not stand any more.
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if not mine or string.match(mine, '^%d+') ~= ARGV[2] then
  return 0
end
--@ clock.lua
local now = clock()
local ends = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
if ends <= now then
  return 0
end
local later = now + ARGV[3] * 1000
if later > ends then
  redis.call('ZADD', KEYS[2], string.format('%.0f', later), ARGV[1])
  local left = math.ceil(ARGV[3]) + 1000
  if redis.call('PTTL', KEYS[2]) < left then
    redis.call('PEXPIRE', KEYS[1], left)
    redis.call('PEXPIRE', KEYS[2], left)
  end
end
return 1
