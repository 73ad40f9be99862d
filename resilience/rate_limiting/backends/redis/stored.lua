-- What scripts about stored buckets have in common. See token_bucket.lua for what is stored.

-- Return the server's moment, and whether it is the caller's.
local function clock(lent)
  local now = tonumber(lent)
  if now > 0 then
    return now, true
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2]), false
end

-- Return tat, rem, stamp and rate of a value; nothing where it is no bucket.
local function read(value)
  local a, b, c, was = string.match(value, '^(%d+) (%d+) ?(%d*) ?(%S*)$')
  if not a then
    return nil
  end
  return tonumber(a), tonumber(b), c ~= '' and tonumber(c) or 0, was
end

-- Return the moment as it stands at `now`: a clock that was set back moves it, and a full bucket is full now.
local function standing(tat, rem, stamp, now, count)
  if stamp > now then
    tat = tat - (stamp - now)
  end
  if tat < now then
    return now, 0
  end
  if rem >= count then
    return tat + 1, 0
  end
  return tat, rem
end

local function beyond(tat, rem, other, other_rem)
  return tat > other or (tat == other and rem > other_rem)
end

local function keep(key, tat, rem, stamp, rate, now)
  local full = tat - now
  if rem > 0 then
    full = full + 1
  end
  local value = string.format('%.0f %.0f %.0f %s', tat, rem, stamp, rate)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.max(1, math.ceil(full / 1000))))
end
