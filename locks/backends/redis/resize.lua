-- Sets the size of a resource; nobody loses what they hold, and more room goes to those who wait.
-- KEYS: 1 holders  2 fence  3 queue  4 waiters  5 ends  6 size
-- ARGV: 1 size  2 'drain' = nothing is granted until all who held at the old size are gone  3 units that fill it
-- Answers what the size was, 0 where there was none.
--@ draw.lua
--@ shared.lua
local now = clock()
sweep(now)
local before, size = size_of(), tonumber(ARGV[1])
redis.call('SET', KEYS[6], ARGV[1])
if ARGV[2] == 'drain' and before ~= size then
  redis.call('DEL', KEYS[3], KEYS[4]) -- they named units of the old size; they ask again, and are told
  for _, token in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
    local ends, mine = redis.call('ZSCORE', KEYS[5], token), redis.call('HGET', KEYS[1], token) or ''
    let_go(token, mine)
    if mine ~= '' then
      hold(token, string.match(mine, '^%d+'), units_of(ARGV[3]), ARGV[3], ends)
    end
  end
end
advance(now, size, nil, nil)
settle()
return before
