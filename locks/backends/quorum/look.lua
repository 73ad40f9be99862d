-- Looks at a lock.
-- KEYS: 1 owner  2 fence
-- Answers {server time us, owner, ms left or -1, fence}.
--@ clock.lua
return {string.format('%.0f', clock()), redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]),
        redis.call('GET', KEYS[2]) or '0'}
