-- Goes on with less than was held, without a gap, and hands the rest to those who wait.
-- KEYS: 1 holders  2 fence  3 queue  4 waiters  5 ends  6 size
-- ARGV: 1 token  2 fence  3 units that are kept
-- Answers 1, or 0 when the grant does not stand any more.
--@ draw.lua
--@ shared.lua
local now = clock()
sweep(now)
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if not mine or string.match(mine, '^%d+') ~= ARGV[2] then
  return 0
end
local ends = redis.call('ZSCORE', KEYS[5], ARGV[1])
let_go(ARGV[1], mine)
hold(ARGV[1], ARGV[2], units_of(ARGV[3]), ARGV[3], ends)
advance(now, size_of(), nil, nil)
settle()
return 1
