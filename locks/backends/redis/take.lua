-- Takes a lock, or joins its queue. Safe to send again with the same token (R5).
-- KEYS: 1 owner  2 fence  3 queue  4 waiters  5 tombstone of this token
-- ARGV: 1 token  2 ttl ms  3 address ('' = do not queue)  4 ms for which this waiter counts as alive
-- Answers the fence as text when the lock is the caller's, else
-- {ms left of the owner or -1, server time us, waiters, owner}; 'withdrawn' when the token was given up.
if redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) == 0 then
--@ draw.lua
  local fence = draw(clock())
  redis.call('SET', KEYS[1], ARGV[1] .. '|' .. fence, 'PX', ARGV[2])
  return fence
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  return 'withdrawn' -- this request was overtaken by its own withdrawal (C9)
end
--@ draw.lua
--@ pass_on.lua
local now = clock()
local owner = redis.call('GET', KEYS[1])
if owner then
  local mine = ARGV[1] .. '|'
  if string.sub(owner, 1, #mine) == mine then
    -- The caller counts its lease from this request, so the server must as well.
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return string.sub(owner, #mine + 1)
  end
else
  local token, fence = pass_on(now, ARGV[1], ARGV[2])
  if not token then
    fence = draw(now)
    redis.call('SET', KEYS[1], ARGV[1] .. '|' .. fence, 'PX', ARGV[2])
    redis.call('HDEL', KEYS[4], ARGV[1])
    return fence
  end
  if token == ARGV[1] then
    return fence
  end
  owner = redis.call('GET', KEYS[1])
end
local waiters
if ARGV[3] ~= '' then
  local entry = string.format('%.0f', now + ARGV[4] * 1000) .. '|' .. ARGV[2] .. '|' .. ARGV[3]
  if redis.call('HSET', KEYS[4], ARGV[1], entry) == 1 then
    waiters = redis.call('RPUSH', KEYS[3], ARGV[1])
  end
  -- Every live waiter comes back long before this: a queue of the dead disappears by itself.
  redis.call('PEXPIRE', KEYS[3], ARGV[4] * 4)
  redis.call('PEXPIRE', KEYS[4], ARGV[4] * 4)
end
return {redis.call('PTTL', KEYS[1]), string.format('%.0f', now), waiters or redis.call('LLEN', KEYS[3]), owner}
