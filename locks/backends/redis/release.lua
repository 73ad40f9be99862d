-- Gives a lock back and hands it to the first live waiter, in one step (R3).
-- KEYS: 1 owner  2 fence  3 queue  4 waiters
-- ARGV: 1 token|fence
-- Answers 1 when it was the caller's, 0 when it was not.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  return redis.call('DEL', KEYS[1])
end
--@ draw.lua
--@ pass_on.lua
if not pass_on(clock(), nil, nil) then
  redis.call('DEL', KEYS[1])
end
return 1
