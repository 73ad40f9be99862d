-- Gives up a token: leaves the queue, gives the lock back if it was granted meanwhile, and, where a take of
-- this token may still be on its way, leaves a tombstone that refuses it (C9).
-- KEYS: 1 owner  2 fence  3 queue  4 waiters  5 tombstone of this token
-- ARGV: 1 token  2 ms for which the tombstone stays, 0 = none
-- Answers 1 when the lock had been granted, else 0.
if ARGV[2] ~= '0' then
  redis.call('SET', KEYS[5], '1', 'PX', ARGV[2])
end
if redis.call('HDEL', KEYS[4], ARGV[1]) == 1 then
  redis.call('LREM', KEYS[3], 1, ARGV[1])
end
local owner = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. '|'
if owner and string.sub(owner, 1, #mine) ~= mine then
  return 0
end
--@ draw.lua
--@ pass_on.lua
if not pass_on(clock(), nil, nil) then -- who waits for an owner that lapsed need not wait any longer
  redis.call('DEL', KEYS[1])
end
return owner and 1 or 0
