-- Replaces a scope's document by a newer one and tells those who listen, in one step.
-- KEYS[1] hash of the scope   ARGV epoch, version, checksum, document, channel, news, base epoch, base version
-- Returns {1, epoch, version} where the document is there now, {0, epoch, version} of what stands in its way.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'checksum')
local epoch, version = tonumber(held[1] or '0'), tonumber(held[2] or '-1')
local new_epoch, new_version = tonumber(ARGV[1]), tonumber(ARGV[2])
if epoch == new_epoch and version == new_version and held[3] == ARGV[3] then
  return {1, held[1], held[2]}
end
local based = ARGV[7] == '' or (tonumber(ARGV[7]) == epoch and tonumber(ARGV[8]) == version)
local newer = new_epoch > epoch or (new_epoch == epoch and new_version > version)
if not (based and newer) then
  return {0, held[1] or '0', held[2] or '0'}
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', ARGV[2], 'checksum', ARGV[3], 'document', ARGV[4])
redis.call('PERSIST', KEYS[1])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return {1, ARGV[1], ARGV[2]}
