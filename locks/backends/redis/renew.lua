-- Starts the time-to-live anew. It never creates the lock and never shortens it (R7).
-- KEYS: 1 owner
-- ARGV: 1 token|fence  2 ttl ms
-- Answers 1 when renewed, 0 when the lock is not the caller's, -1 when somebody took its expiry away.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local left = redis.call('PTTL', KEYS[1])
if left == -1 then
  return -1
end
if left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
