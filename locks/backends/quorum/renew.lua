-- Starts the time-to-live anew. It never creates the lock and never shortens it (R7).
-- KEYS: 1 owner
-- ARGV: 1 token  2 ttl ms  3 the last attempt's number: above all others
-- Answers 1 when renewed, 0 when the lock is not the caller's here, -1 when somebody took its expiry away.
local owner = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. '|'
if not owner or string.sub(owner, 1, #mine) ~= mine then
  return 0
end
local left = redis.call('PTTL', KEYS[1])
if left == -1 then
  return -1
end
-- What an attempt that failed left here counts from now on, so what still comes to give that up must find another.
redis.call('SET', KEYS[1], mine .. ARGV[3], 'PX', math.max(left, tonumber(ARGV[2])))
return 1
