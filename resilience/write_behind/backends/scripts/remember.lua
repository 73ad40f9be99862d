-- Results of operations that went straight to the database: their ids must be known here, too.
-- KEYS: state, then the record of each
-- ARGV: fence, how long they are remembered (ms), then key, delta, left of each
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'phase') ~= 'loading' then
  return 0
end
for at = 2, #KEYS do
  local from = 3 + (at - 2) * 3
  redis.call('HSET', KEYS[at], 'key', ARGV[from], 'delta', ARGV[from + 1], 'word', 'done', 'left', ARGV[from + 2], 'seq', '0')
  redis.call('PEXPIRE', KEYS[at], ARGV[2])
end
return 1
