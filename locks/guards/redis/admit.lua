-- Lets a fence pass that is at least the highest seen of its lock, and remembers it.
-- KEYS: 1 the highest fence seen   ARGV: 1 the fence offered
-- Answers {0, the highest} to one that is too low. Compared as digits: a number of Lua has 53 bits, a fence 63.
local highest = redis.call('GET', KEYS[1])
if highest and (#highest > #ARGV[1] or (#highest == #ARGV[1] and highest > ARGV[1])) then
  return {0, highest}
end
if highest ~= ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1])
end
