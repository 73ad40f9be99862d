-- Reads a resource as it is; what has ended is for the reader to leave out.
-- KEYS: 1 holders  2 queue  3 waiters  4 ends  5 size
-- Answers {server time us, size, queue, waiters, ends, holders}.
--@ clock.lua
return {
  string.format('%.0f', clock()),
  redis.call('GET', KEYS[5]) or '0',
  redis.call('LRANGE', KEYS[2], 0, -1),
  redis.call('HGETALL', KEYS[3]),
  redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES'),
  redis.call('HGETALL', KEYS[1])
}
