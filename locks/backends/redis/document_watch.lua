-- Asks for hints at an address, or goes on asking.
-- KEYS: 1 watchers
-- ARGV: 1 id  2 address  3 ms for which it is asked
--@ clock.lua
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', clock() + ARGV[3] * 1000) .. '|' .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
