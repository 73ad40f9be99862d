-- Take tokens from one bucket, all or none, on the server's clock.
--
-- KEYS[1]  the bucket: "tat rem", "tat rem stamp" or "tat rem stamp rate", where tat is whole microseconds since
--          1970 and rem is in 1/count microseconds: the moment at which the bucket is full. No key: it is full.
--          A stamp above 0 is the moment of writing, kept where callers lend their clocks or the bucket is in debt.
-- ARGV[1], ARGV[2]  the time of the tokens wanted, as whole microseconds and rest
-- ARGV[3], ARGV[4]  the time from empty to full, likewise
-- ARGV[5]  count
-- ARGV[6]  not after: a moment of this clock after which nothing may be charged, or 0
-- ARGV[7]  the caller's clock, where the server refuses TIME to scripts; else 0
-- ARGV[8]  the rate in words, kept beside the moment; may be left out
--
-- Returns {status, tat, rem, now}: 1 charged, 0 refused (tat and rem are what they would have become),
-- -1 too late, -2 the bucket is of another rate and its value comes fifth. Numbers are exact because only sums
-- are formed, and every sum is far below 2^53.

local count = tonumber(ARGV[5])
local not_after = tonumber(ARGV[6])
local now = tonumber(ARGV[7])
local rate = ARGV[8] or ''
local borrowed = now > 0
if not borrowed then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local stored = redis.call('GET', KEYS[1])
local tat, rem, owes, mended, other = now, 0, false, false, false
if stored then
  local a, b, c, was = string.match(stored, '^(%d+) (%d+) ?(%d*) ?(%S*)$')
  if not a then
    return redis.error_reply('ERR value of ' .. KEYS[1] .. ' is no token bucket')
  end
  local stamp = c ~= '' and tonumber(c) or 0
  if borrowed and stamp > now then
    now = stamp -- callers' clocks differ: the latest one seen is the time
  end
  other = was ~= '' and rate ~= '' and was ~= rate
  owes = was ~= '' and stamp > 0 -- it may owe more than its burst, to those who wait
  tat, rem = tonumber(a), tonumber(b)
  if stamp > now then -- this clock was set back
    tat, mended = tat - (stamp - now), true
  end
  if tat < now then
    tat, rem = now, 0
  elseif rem >= count then -- written with another rate, which is not known: round up, which never mints
    tat, rem = tat + 1, 0
  end
end

if not_after > 0 and now > not_after then
  return {-1, tat, rem, now}
end
if other then
  return {-2, tat, rem, now, stored}
end

local last, last_rem = now + tonumber(ARGV[3]), tonumber(ARGV[4])

local function keep(tat, rem)
  local value = string.format('%.0f %.0f', tat, rem)
  if borrowed or rate ~= '' then
    local stamped = borrowed or tat > last or (tat == last and rem > last_rem)
    value = value .. string.format(' %.0f', stamped and now or 0)
  end
  if rate ~= '' then
    value = value .. ' ' .. rate
  end
  local full = tat - now
  if rem > 0 then
    full = full + 1
  end
  redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', math.max(1, math.ceil(full / 1000))))
end

-- Without waiters a bucket owes at most its burst. More is stored only if this clock was set back.
if not owes and (tat > last or (tat == last and rem > last_rem)) then
  tat, rem, mended = last, last_rem, true
end

local new_tat, new_rem = tat + tonumber(ARGV[1]), rem + tonumber(ARGV[2])
if new_rem >= count then
  new_tat, new_rem = new_tat + 1, new_rem - count
end
if new_tat > last or (new_tat == last and new_rem > last_rem) then
  if mended then
    keep(tat, rem) -- or it would be mended anew at each call, and stay empty until the clock is back where it was
  end
  return {0, new_tat, new_rem, now}
end
keep(new_tat, new_rem)
return {1, new_tat, new_rem, now}
