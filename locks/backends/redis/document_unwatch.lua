-- Asks for hints no longer.
-- KEYS: 1 watchers
-- ARGV: 1 id
return redis.call('HDEL', KEYS[1], ARGV[1])
