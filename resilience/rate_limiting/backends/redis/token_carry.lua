-- Write a bucket anew that was worked out for another rate, if nobody has changed it meanwhile.
--
-- KEYS[1]  the bucket
-- ARGV[1]  its value as it was read
-- ARGV[2]  its value as it becomes; empty for a full bucket
-- ARGV[3]  milliseconds until it is full
-- ARGV[4]  not after
-- ARGV[5]  the caller's clock, or 0
--
-- Returns {status, 0, 0, now}: 1 written, 0 changed meanwhile, -1 too late.

local now = tonumber(ARGV[5])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local not_after = tonumber(ARGV[4])
if not_after > 0 and now > not_after then
  return {-1, 0, 0, now}
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0, 0, 0, now}
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return {1, 0, 0, now}
