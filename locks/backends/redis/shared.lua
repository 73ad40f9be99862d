-- What can be held by several at once and in part: the rule of table.py, word for word.
-- KEYS: 1 holders  2 fence  3 queue  4 waiters  5 ends  6 size
-- holders: token -> fence|units, and =label -> how much of that unit is held; both in one hash, so that they
-- come and go together. ends: token -> us at which its time is over. waiters: token -> alive us|ttl ms|units|address.
local used = {} -- what is held of a unit, and in `advance` what is kept for those who came first
local function units_of(text)
  local units = {}
  for label, weight, capacity in string.gmatch(text, '([^,;|]*),(%d+),(%d+)') do
    units[#units + 1] = {label, tonumber(weight), tonumber(capacity)}
  end
  return units
end
local function taken(label)
  used[label] = used[label] or tonumber(redis.call('HGET', KEYS[1], '=' .. label) or 0)
  return used[label]
end
local function fits(units, size)
  for _, unit in ipairs(units) do
    local capacity = unit[3] > 0 and unit[3] or size
    if taken(unit[1]) + unit[2] > capacity then
      return false
    end
  end
  return true
end
local function weigh(units)
  for _, unit in ipairs(units) do
    used[unit[1]] = taken(unit[1]) + unit[2]
  end
end
local function hold(token, fence, units, text, ends)
  redis.call('HSET', KEYS[1], token, fence .. '|' .. text)
  for _, unit in ipairs(units) do
    redis.call('HINCRBY', KEYS[1], '=' .. unit[1], unit[2])
  end
  redis.call('ZADD', KEYS[5], string.format('%.0f', ends), token)
end
local function let_go(token, text)
  local empty = {token}
  for _, unit in ipairs(units_of(text)) do
    if redis.call('HINCRBY', KEYS[1], '=' .. unit[1], -unit[2]) <= 0 then
      empty[#empty + 1] = '=' .. unit[1]
    end
  end
  redis.call('HDEL', KEYS[1], unpack(empty))
  redis.call('ZREM', KEYS[5], token)
end
local function sweep(now)
  local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  if not first[1] then
    redis.call('DEL', KEYS[1]) -- if there is one: somebody deleted the ends of its entries, so nobody holds anything
  elseif tonumber(first[2]) <= now then
    for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', string.format('%.0f', now))) do
      let_go(token, redis.call('HGET', KEYS[1], token) or '')
    end
  end
end
-- The keys live as long as the longest grant, and a second more: the entries decide, not the keys.
local function settle()
  local last = redis.call('ZREVRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  if last[1] then
    local at = string.format('%.0f', math.ceil(last[2] / 1000) + 1000)
    redis.call('PEXPIREAT', KEYS[1], at)
    redis.call('PEXPIREAT', KEYS[5], at)
  end
end
-- Grants what can be granted, in order of arrival; answers whether anybody behind them can be admitted, and the
-- fence of `me`, who waits as well and is told by the answer. Whoever is not there any more is skipped, as in
-- pass_on.lua. What those who wait have asked for is kept for them: nobody overtakes.
local function advance(now, size, me, my_ttl)
  local place, fence, mine = 0, nil, nil
  while true do
    local tokens = redis.call('LRANGE', KEYS[3], place, place + 15)
    if not tokens[1] then
      return true, mine
    end
    local entries = redis.call('HMGET', KEYS[4], unpack(tokens))
    for number, token in ipairs(tokens) do
      local alive, ttl, text, address = string.match(entries[number] or '', '^(%d+)|(%d+)|([^|]*)|(.+)$')
      local waits = false
      if alive and (token == me or tonumber(alive) >= now) then
        local units = units_of(text)
        if fits(units, size) then
          fence = fence or draw(now)
          local letter = token .. '|' .. fence .. '|' .. string.format('%.0f', now)
          local there = token == me or redis.call('PUBSUB', 'NUMSUB', address)[2] > 0 -- as in pass_on.lua
          if there and (token == me or redis.call('PUBLISH', address, letter) > 0) then
            weigh(units)
            hold(token, fence, units, text, now + (token == me and my_ttl or ttl) * 1000)
            mine, fence = token == me and fence or mine, nil
          end
        elseif #units == 1 then
          return false, mine -- all claims have that unit, and what is kept of it leaves no room for them
        else
          weigh(units)
          waits = true
        end
      end
      if waits then
        place = place + 1
      else
        redis.call('LREM', KEYS[3], 1, token)
        redis.call('HDEL', KEYS[4], token)
      end
    end
  end
end
local function size_of()
  return tonumber(redis.call('GET', KEYS[6]) or 0)
end
