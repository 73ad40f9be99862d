-- Deletes a document if nobody changed it since it was read.
-- KEYS: 1 document  2 watchers
-- ARGV: 1 version that was read
-- Answers 1 when it did, else 0.
local stands = redis.call('GET', KEYS[1])
if not stands or string.match(stands, '^(%d+)|') ~= ARGV[1] then
  return 0
end
--@ hint.lua
redis.call('DEL', KEYS[1])
hint(clock(), '0')
return 1
