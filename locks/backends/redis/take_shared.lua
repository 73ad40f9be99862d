-- Takes what is claimed of a resource, or joins its queue. Safe to send again with the same token (R5).
-- KEYS: 1 holders  2 fence  3 queue  4 waiters  5 ends  6 size  7 tombstone of this token
-- ARGV: 1 token  2 ttl ms  3 address ('' = do not queue)  4 ms for which this waiter counts as alive
--       5 units  6 the size that the caller takes the resource to have, 0 = any
-- Answers the fence as text when it is granted, else {ms until the first grant ends or -1, server time us, waiters,
-- owner}; 'withdrawn' when the token was given up; the size as a number where it is another than the caller says.
if redis.call('EXISTS', KEYS[7]) == 1 then
  return 'withdrawn' -- this request was overtaken by its own withdrawal (C9)
end
--@ draw.lua
--@ shared.lua
local now = clock()
sweep(now)
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if mine then
  -- The caller counts its lease from this request, so the server must as well.
  redis.call('ZADD', KEYS[5], string.format('%.0f', now + ARGV[2] * 1000), ARGV[1])
  settle()
  return string.match(mine, '^%d+')
end
local size, said = size_of(), tonumber(ARGV[6])
local units, free, fence = units_of(ARGV[5]), true, nil
if said ~= 0 and size == 0 then
  redis.call('SET', KEYS[6], ARGV[6])
  size = said
elseif said ~= 0 and said ~= size then
  -- Who waits said the size that was right then, and goes on unless there is too little for it now.
  local goes_on = redis.call('HGET', KEYS[4], ARGV[1]) and true
  for _, unit in ipairs(units) do
    goes_on = goes_on and unit[2] <= (unit[3] > 0 and unit[3] or size)
  end
  if not goes_on then
    if redis.call('HDEL', KEYS[4], ARGV[1]) == 1 then
      redis.call('LREM', KEYS[3], 1, ARGV[1])
    end
    return size
  end
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  free, fence = advance(now, size, ARGV[1], ARGV[2])
end
if not fence and free and fits(units, size) then
  fence = draw(now)
  hold(ARGV[1], fence, units, ARGV[5], now + ARGV[2] * 1000)
end
settle()
if fence then
  return fence
end
if ARGV[3] ~= '' then
  local alive = string.format('%.0f', now + ARGV[4] * 1000)
  if redis.call('HSET', KEYS[4], ARGV[1], alive .. '|' .. ARGV[2] .. '|' .. ARGV[5] .. '|' .. ARGV[3]) == 1 then
    redis.call('RPUSH', KEYS[3], ARGV[1])
  end
  -- Every live waiter comes back long before this: a queue of the dead disappears by itself.
  redis.call('PEXPIRE', KEYS[3], ARGV[4] * 4)
  redis.call('PEXPIRE', KEYS[4], ARGV[4] * 4)
end
local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
local left = first[1] and math.ceil((first[2] - now) / 1000) or -1
return {left, string.format('%.0f', now), redis.call('LLEN', KEYS[3]), first[1] or ''}
