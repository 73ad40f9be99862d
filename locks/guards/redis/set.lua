-- Writes a value under a fence.
-- KEYS: 1 the highest fence seen  2 the value   ARGV: 1 the fence  2 the value  3 its time to live in ms, '' for ever
--@ admit.lua
if ARGV[3] == '' then
  redis.call('SET', KEYS[2], ARGV[2])
else
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
return {1}
