-- KEYS: 1 document
-- Answers {server time us, version|text or ''}.
--@ clock.lua
return {string.format('%.0f', clock()), redis.call('GET', KEYS[1]) or ''}
