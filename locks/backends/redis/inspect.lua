-- Reads a lock as it is; who has ceased to wait is for the reader to leave out.
-- KEYS: 1 owner  2 queue  3 waiters
-- Answers {server time us, owner or '', ms left of the owner or -1, queue, waiters}.
--@ clock.lua
return {
  string.format('%.0f', clock()),
  redis.call('GET', KEYS[1]) or '',
  redis.call('PTTL', KEYS[1]),
  redis.call('LRANGE', KEYS[2], 0, -1),
  redis.call('HGETALL', KEYS[3])
}
