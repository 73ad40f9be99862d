-- The next step of a turn of the cache; a lower fence than the stored one never changes anything.
-- KEYS: state, balances, sequences, pending, frozen, stream, parked
-- ARGV: begin | open | drain | finish, fence, group, refuse or allow eviction
-- Answer: {ok | stale | busy | lost | evicts, what stands there}
local step, fence = ARGV[1], tonumber(ARGV[2])
local phase = redis.call('HGET', KEYS[1], 'phase') or 'none'
local stored = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')

if stored > fence then
  return {'stale', tostring(stored)}
end
if step == 'begin' then
  if stored == fence and phase ~= 'none' then
    return {'ok', phase}
  end
  if redis.call('XLEN', KEYS[6]) + redis.call('XLEN', KEYS[7]) > 0 then
    return {'busy', phase}
  end
  if ARGV[4] == 'refuse' then
    local memory = redis.call('INFO', 'memory')
    local policy = string.match(memory, 'maxmemory_policy:(%S+)') or 'noeviction'
    if tonumber(string.match(memory, 'maxmemory:(%d+)') or '0') > 0 and policy ~= 'noeviction' then
      return {'evicts', policy}
    end
  end
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
  redis.call('XGROUP', 'CREATE', KEYS[6], ARGV[3], '0', 'MKSTREAM')
  redis.call('HSET', KEYS[1], 'phase', 'loading', 'fence', ARGV[2])
  return {'ok', 'loading'}
end
if stored ~= fence or phase == 'none' then
  return {'lost', phase}
end
if step == 'open' and phase == 'loading' then
  phase = 'open'
elseif step == 'drain' and phase ~= 'closed' then
  phase = 'draining'
elseif step == 'finish' then
  if redis.call('XLEN', KEYS[6]) + redis.call('XLEN', KEYS[7]) > 0 then
    return {'busy', phase}
  end
  phase = 'closed'
end
redis.call('HSET', KEYS[1], 'phase', phase)
return {'ok', phase}
