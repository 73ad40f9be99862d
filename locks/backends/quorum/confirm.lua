-- Writes back the fence of a grant, so that every later grant draws a higher one (K5).
-- KEYS: 1 owner  2 fence
-- ARGV: 1 token|attempt  2 fence
-- Answers 1, or 0 where this master does not hold the attempt: it may have drawn for the next one already.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[2])
end
return 1
