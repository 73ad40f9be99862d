-- Deletes values under a fence; the fence stays.
-- KEYS: 1 the highest fence seen  2... the values   ARGV: 1 the fence
--@ admit.lua
local count = 0
for place = 2, #KEYS do
  count = count + redis.call('DEL', KEYS[place])
end
return {1, count}
