-- Take tokens from several buckets, all of them or none, now or within a bounded time.
--
-- KEYS     the buckets, as in token_bucket.lua
-- ARGV     for each key six: time of its tokens (whole, rest), from empty to full (whole, rest), count, rate in words
--          then: ahead, the microseconds that a bucket may be in debt beyond its burst; not after; caller's clock or 0
--
-- Returns {status, key, 0, now, tat, rem, tat, rem, ...}: 1 charged, 0 refused (moments are what they would have
-- become), -1 too late, -2 the bucket of that key is of another rate, and its value comes fifth.

local n = #KEYS
local ahead, not_after = tonumber(ARGV[6 * n + 1]), tonumber(ARGV[6 * n + 2])
local now, borrowed = clock(ARGV[6 * n + 3])

local values = {}
for i = 1, n do
  local stored = redis.call('GET', KEYS[i])
  if stored then
    local tat, rem, stamp, was = read(stored)
    if not tat then
      return redis.error_reply('ERR value of ' .. KEYS[i] .. ' is no token bucket')
    end
    if borrowed and stamp > now then
      now = stamp
    end
    values[i] = {tat, rem, stamp, was, stored}
  end
end
if not_after > 0 and now > not_after then
  return {-1, 0, 0, now}
end

local answer, refused = {1, 0, 0, now}, false
local plan = {}
for i = 1, n do
  local at = 6 * (i - 1)
  local count, rate = tonumber(ARGV[at + 5]), ARGV[at + 6]
  local last, last_rem = now + tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local tat, rem = now, 0
  local stored = values[i]
  if stored then
    local stamp, was = stored[3], stored[4]
    if was ~= '' and was ~= rate then
      return {-2, i, 0, now, stored[5]}
    end
    tat, rem = standing(stored[1], stored[2], stamp, now, count)
    if (was == '' or stamp == 0) and beyond(tat, rem, last, last_rem) then
      tat, rem = last, last_rem
    end
  end
  tat, rem = tat + tonumber(ARGV[at + 1]), rem + tonumber(ARGV[at + 2])
  if rem >= count then
    tat, rem = tat + 1, rem - count
  end
  if beyond(tat, rem, last + ahead, last_rem) then
    refused = true
  end
  plan[i] = {tat, rem, (borrowed or beyond(tat, rem, last, last_rem)) and now or 0, rate}
  answer[3 + 2 * i], answer[4 + 2 * i] = tat, rem
end
if refused then
  answer[1] = 0
  return answer
end
for i = 1, n do
  keep(KEYS[i], plan[i][1], plan[i][2], plan[i][3], plan[i][4], now)
end
return answer
