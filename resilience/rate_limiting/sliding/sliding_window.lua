-- Take tokens from one sliding window, all or none, on the server's clock.
--
-- KEYS[1]  the window: "end:tokens end:tokens ...", oldest first, where end is the last microsecond of a slot.
--          No key: it is empty.
-- ARGV[1]  tokens wanted
-- ARGV[2]  tokens that any period admits
-- ARGV[3]  the period, in microseconds
-- ARGV[4]  the slot, in microseconds
-- ARGV[5]  not after: a moment of this clock after which nothing may be charged, or 0
-- ARGV[6]  the caller's clock, where the server refuses TIME to scripts; else 0
--
-- Returns {status, wait, remaining, now, reset}: 1 charged, 0 refused, -1 too late; microseconds. All numbers are
-- below 2^53, where Lua counts exactly.

local cost, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local period, slot = tonumber(ARGV[3]), tonumber(ARGV[4])
local not_after = tonumber(ARGV[5])
local now = tonumber(ARGV[6])
local borrowed = now > 0
if not borrowed then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local ends, tokens, used, mended = {}, {}, 0, false
local stored = redis.call('GET', KEYS[1])
if stored then
  if not string.match(stored, '^[%d: ]+$') then
    return redis.error_reply('ERR value of ' .. KEYS[1] .. ' is no sliding window')
  end
  for e, n in string.gmatch(stored, '(%d+):(%d+)') do
    ends[#ends + 1], tokens[#tokens + 1] = tonumber(e), tonumber(n)
  end
  local newest = ends[#ends]
  local ahead = newest - (now - now % slot + slot - 1)
  if ahead > 0 and borrowed then
    now = newest - slot + 1 -- callers' clocks differ: it is at least as late as the latest slot seen
  elseif ahead > 0 then
    for i = 1, #ends do -- this clock was set back: keep the ages, as if no time had passed since the last call
      ends[i] = ends[i] - ahead
    end
    mended = true
  end
end

if not_after > 0 and now > not_after then
  return {-1, 0, 0, now, 0}
end

local first = 1
while ends[first] and ends[first] + period <= now do
  first = first + 1
end
for i = first, #ends do
  used = used + tokens[i]
end

local status, wait = 0, 0
if used + cost <= count then
  status, used = 1, used + cost
  local own = now - now % slot + slot - 1
  if #ends >= first and ends[#ends] >= own then
    tokens[#tokens] = tokens[#tokens] + cost
  else
    ends[#ends + 1], tokens[#tokens + 1] = own, cost
  end
else
  local missing = used + cost - count
  local i = first
  missing = missing - tokens[i]
  while missing > 0 do
    i = i + 1
    missing = missing - tokens[i]
  end
  wait = ends[i] + period - now
end

local reset = ends[#ends] + period - now
if status == 1 or mended then -- or it would be mended anew at each call, and never grow older
  local parts = {}
  for i = first, #ends do
    parts[#parts + 1] = string.format('%.0f:%.0f', ends[i], tokens[i])
  end
  redis.call('SET', KEYS[1], table.concat(parts, ' '), 'PX', string.format('%.0f', math.max(1, math.ceil(reset / 1000))))
end
return {status, wait, count - used, now, reset}
