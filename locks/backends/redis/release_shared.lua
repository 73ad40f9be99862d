-- Ends a grant, and hands what came free to those who wait, in one step (R3).
-- KEYS: 1 holders  2 fence  3 queue  4 waiters  5 ends  6 size
-- ARGV: 1 token  2 fence
-- Answers 1 when it was the caller's, 0 when it was not.
--@ draw.lua
--@ shared.lua
local now = clock()
sweep(now)
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if not mine or string.match(mine, '^%d+') ~= ARGV[2] then
  return 0
end
let_go(ARGV[1], mine)
if redis.call('EXISTS', KEYS[3]) == 1 then
  advance(now, size_of(), nil, nil)
end
settle()
return 1
