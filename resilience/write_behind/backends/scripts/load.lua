-- Balances of the database, while nobody may change them there.
-- KEYS: state, balances, sequences
-- ARGV: fence, then key, balance, sequence of each
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'phase') ~= 'loading' then
  return 0
end
for at = 2, #ARGV, 3 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 2])
end
return 1
