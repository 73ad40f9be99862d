-- Entries whose operations are committed: out of the stream, and their ids begin to age.
-- KEYS: stream, pending, then the record of each
-- ARGV: group, how long ids are remembered (ms), then entry and key of each
local gone = 0
for at = 3, #KEYS do
  local entry, key = ARGV[3 + (at - 3) * 2], ARGV[4 + (at - 3) * 2]
  redis.call('XACK', KEYS[1], ARGV[1], entry)
  if redis.call('XDEL', KEYS[1], entry) == 1 then
    gone = gone + 1
    if redis.call('HINCRBY', KEYS[2], key, -1) <= 0 then
      redis.call('HDEL', KEYS[2], key)
    end
    redis.call('PEXPIRE', KEYS[at], ARGV[2])
  end
end
return gone
