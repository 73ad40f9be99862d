-- Gives back what a token got in an attempt and those before it; of a whole acquisition with the last number.
-- KEYS: 1 owner  2 tombstone of this token
-- ARGV: 1 token  2 number of the attempt  3 ms for which takes that are still on their way are refused, 0 = none
-- Answers 1 when something was given back, else 0.
if ARGV[3] ~= '0' and tonumber(redis.call('GET', KEYS[2]) or -1) <= tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
local owner = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. '|'
if owner and string.sub(owner, 1, #mine) == mine and tonumber(string.sub(owner, #mine + 1)) <= tonumber(ARGV[2]) then
  return redis.call('DEL', KEYS[1])
end
return 0
