-- What is known of one key.
-- KEYS: state, balances, pending, frozen
-- ARGV: key
-- Answer: {phase, balance or '', pending, reason or ''}
return {
  redis.call('HGET', KEYS[1], 'phase') or 'none',
  redis.call('HGET', KEYS[2], ARGV[1]) or '',
  redis.call('HGET', KEYS[3], ARGV[1]) or '0',
  redis.call('HGET', KEYS[4], ARGV[1]) or '',
}
