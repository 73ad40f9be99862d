-- Where the turn stands, and how far the database is behind.
-- KEYS: state, frozen, stream, parked
-- Answer: {phase, fence, in the stream, parked, frozen keys, age of the oldest (ms)}
local age = 0
local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)
if first[1] then
  local now = redis.call('TIME')
  local since = string.match(first[1][1], '^(%d+)')
  age = math.max(0, math.floor(tonumber(now[1]) * 1000 + tonumber(now[2]) / 1000 - tonumber(since)))
end
return {
  redis.call('HGET', KEYS[1], 'phase') or 'none',
  redis.call('HGET', KEYS[1], 'fence') or '0',
  redis.call('XLEN', KEYS[3]),
  redis.call('XLEN', KEYS[4]),
  redis.call('HLEN', KEYS[2]),
  age,
}
