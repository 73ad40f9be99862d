-- An entry that could not be applied: after so many tries it is parked and its key frozen.
-- KEYS: stream, parked, frozen, tries
-- ARGV: group, entry, operation, key, most tries, reason
-- Answer: {tries, whether it is parked}
local tries = redis.call('HINCRBY', KEYS[4], ARGV[3], 1)
if tries < tonumber(ARGV[5]) then
  return {tries, 0}
end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if #found == 1 then
  redis.call('XDEL', KEYS[1], ARGV[2])
  redis.call('XADD', KEYS[2], '*', unpack(found[1][2]))
  redis.call('HSET', KEYS[3], ARGV[4], ARGV[6])
end
redis.call('HDEL', KEYS[4], ARGV[3])
return {tries, 1}
