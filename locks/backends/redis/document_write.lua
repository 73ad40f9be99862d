-- Sets a text if nobody else did since it was read.
-- KEYS: 1 document  2 watchers
-- ARGV: 1 version that was read, 0 = none  2 text  3 ms after which it may disappear, '' = never
-- Answers {server time us, new version}, or 0 where another was faster.
local stands = redis.call('GET', KEYS[1])
local version = stands and string.match(stands, '^(%d+)|') or '0'
if version ~= ARGV[1] then
  return 0
end
--@ hint.lua
local now = clock()
-- Never below the time: a document that comes again after it was deleted has versions of its own.
version = string.format('%.0f', math.max(version + 1, now))
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], version .. '|' .. ARGV[2])
else
  redis.call('SET', KEYS[1], version .. '|' .. ARGV[2], 'PX', ARGV[3])
end
hint(now, version)
return {string.format('%.0f', now), version}
