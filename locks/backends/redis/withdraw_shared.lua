-- Gives up a token: leaves the queue, ends what it was granted meanwhile, and, where a take of this token may still
-- be on its way, leaves a tombstone that refuses it (C9).
-- KEYS: 1 holders  2 fence  3 queue  4 waiters  5 ends  6 size  7 tombstone of this token
-- ARGV: 1 token  2 ms for which the tombstone stays, 0 = none
-- Answers 1 when something had been granted, else 0.
if ARGV[2] ~= '0' then
  redis.call('SET', KEYS[7], '1', 'PX', ARGV[2])
end
--@ draw.lua
--@ shared.lua
local now = clock()
sweep(now)
if redis.call('HDEL', KEYS[4], ARGV[1]) == 1 then
  redis.call('LREM', KEYS[3], 1, ARGV[1])
end
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if mine then
  let_go(ARGV[1], mine)
end
advance(now, size_of(), nil, nil) -- also where it only waited: those behind it need not wait for it any longer
settle()
return mine and 1 or 0
