-- Takes a lock at one of several masters. Nobody queues here: the masters' queues could disagree.
-- KEYS: 1 owner  2 fence  3 tombstone of this token
-- ARGV: 1 token  2 number of this attempt  3 ttl ms  4 'fence' = draw one
-- Answers this master's fence as text ('0' without), {ms left of the owner or -1, server time us, owner}, or
-- 'withdrawn' when this attempt was given up, or a later one of the same token came first (K2).
if redis.call('EXISTS', KEYS[1], KEYS[3]) ~= 0 then
  if tonumber(redis.call('GET', KEYS[3]) or -1) >= tonumber(ARGV[2]) then
    return 'withdrawn'
  end
  local owner = redis.call('GET', KEYS[1])
  local mine = ARGV[1] .. '|'
  if owner and string.sub(owner, 1, #mine) ~= mine then
--@ clock.lua
    return {redis.call('PTTL', KEYS[1]), string.format('%.0f', clock()), owner}
  end
  if owner and tonumber(string.sub(owner, #mine + 1)) > tonumber(ARGV[2]) then
    return 'withdrawn'
  end
end
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= 'fence' then
  return '0'
end
--@ draw.lua
return draw(clock())
