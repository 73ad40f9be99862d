-- One instance tells what it sees and hears what the others see; the server's clock decides who is alive.
-- KEYS: 1 members (by end of life), 2 open (members of that opinion, by end of life), 3 versions (of opinions),
--       4 probes (permits, by end of lease), 5 hold (while no probes are given out), 6 override
-- ARGV: 1 member, 2 version of its opinion, 3 whether it is 'open', 4 ttl in ms, 5 permits wanted, 6 permits held,
--       7 lease in ms, 8 permits there are, 9 ms to hold all probes, 10 whether it leaves
-- Returns: live members, those of the opinion 'open', permits granted, override ('' where there is none).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, ttl, lease = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[7])

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('HDEL', KEYS[3], gone)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)

-- An exchange that was given up may be executed after a later one: what is older changes nothing.
local known = tonumber(redis.call('HGET', KEYS[3], me) or '-1')
local version = tonumber(ARGV[2])
local granted = 0
if version > known then
  redis.call('HSET', KEYS[3], me, ARGV[2])
  if ARGV[10] == '1' then
    redis.call('ZREM', KEYS[1], me)
    redis.call('ZREM', KEYS[2], me)
    redis.call('HDEL', KEYS[3], me)
  else
    redis.call('ZADD', KEYS[1], now + ttl, me)
    if ARGV[3] == '1' then
      redis.call('ZADD', KEYS[2], now + ttl, me)
    else
      redis.call('ZREM', KEYS[2], me)
    end
  end

  local permits, held, wanted = tonumber(ARGV[8]), tonumber(ARGV[6]), tonumber(ARGV[5])
  for number = 1, permits do
    if number <= held then
      redis.call('ZADD', KEYS[4], 'XX', now + lease, me .. '#' .. number)
    else
      redis.call('ZREM', KEYS[4], me .. '#' .. number)
    end
  end
  if tonumber(ARGV[9]) > 0 then
    redis.call('SET', KEYS[5], '1', 'PX', ARGV[9])
  end
  if wanted > 0 and redis.call('EXISTS', KEYS[5]) == 0 then
    granted = math.max(0, math.min(wanted, permits - redis.call('ZCARD', KEYS[4])))
    for number = 1, granted do
      redis.call('ZADD', KEYS[4], now + lease, me .. '#' .. number)
    end
  end
  for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3]}) do
    redis.call('PEXPIRE', key, 2 * ttl)
  end
  redis.call('PEXPIRE', KEYS[4], 2 * lease)
end

return {redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]), granted, redis.call('GET', KEYS[6]) or ''}
