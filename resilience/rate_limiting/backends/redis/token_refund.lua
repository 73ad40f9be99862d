-- Give tokens back to one bucket, which becomes full at most.
--
-- KEYS[1]  the bucket, as in token_bucket.lua
-- ARGV[1], ARGV[2]  the time of the tokens, as whole microseconds and rest
-- ARGV[3]  count
-- ARGV[4]  the rate in words
-- ARGV[5]  until: the moment from which nothing is given back any more, or 0
-- ARGV[6]  not after
-- ARGV[7]  the caller's clock, or 0
--
-- Returns {status, tat, rem, now}: 1 given back, 0 nothing to give back, -1 too late, -2 as in token_bucket.lua.

local count, ends, not_after = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now, borrowed = clock(ARGV[7])
local stored = redis.call('GET', KEYS[1])
if not stored then
  return {0, now, 0, now}
end
local tat, rem, stamp, was = read(stored)
if not tat then
  return redis.error_reply('ERR value of ' .. KEYS[1] .. ' is no token bucket')
end
if borrowed and stamp > now then
  now = stamp
end
if not_after > 0 and now > not_after then
  return {-1, tat, rem, now}
end
if was ~= '' and was ~= ARGV[4] then
  return {-2, tat, rem, now, stored}
end
tat, rem = standing(tat, rem, stamp, now, count)
if (ends > 0 and now >= ends) or tat <= now then
  return {0, tat, rem, now}
end
tat, rem = tat - tonumber(ARGV[1]), rem - tonumber(ARGV[2])
if rem < 0 then
  tat, rem = tat - 1, rem + count
end
if beyond(tat, rem, now, 0) then
  keep(KEYS[1], tat, rem, stamp > 0 and now or 0, ARGV[4], now)
else
  tat, rem = now, 0
  redis.call('DEL', KEYS[1])
end
return {1, tat, rem, now}
