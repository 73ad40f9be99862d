-- One operation on one balance: known id -> accepting -> balance -> change -> stream. All of it or nothing of it.
-- KEYS: state, balances, sequences, pending, frozen, stream, record of the operation
-- ARGV: operation, key, delta, how long a refusal is remembered (ms), replicas, most pending, highest balance
-- Answer: {word, what is left, sequence, whether it was known}
local op, key, delta = ARGV[1], ARGV[2], tonumber(ARGV[3])
local replicas = tonumber(ARGV[5])

local known = redis.call('HMGET', KEYS[7], 'key', 'delta', 'word', 'left', 'seq')
if known[1] then
  if replicas > 0 then
    redis.call('HINCRBY', KEYS[1], 'repeats', 1) -- WAIT counts from this connection's last write: let there be one
  end
  if known[1] ~= key or known[2] ~= ARGV[3] then
    return {'other', known[2], known[1], 1}
  end
  return {known[3], known[4], known[5], 1}
end

local phase = redis.call('HGET', KEYS[1], 'phase')
if phase ~= 'open' then
  return {'closed', phase or '', '0', 0}
end
local reason = redis.call('HGET', KEYS[5], key)
if reason then
  return {'frozen', reason, '0', 0}
end
local balance = redis.call('HGET', KEYS[2], key)
if not balance then
  return {'absent', '0', '0', 0}
end
if redis.call('XLEN', KEYS[6]) >= tonumber(ARGV[6]) then
  return {'full', ARGV[6], '0', 0}
end
if replicas > 0 then
  local _, connected = string.gsub(redis.call('INFO', 'replication'), 'state=online', '') -- not those that still load
  if connected < replicas then
    return {'replicas', tostring(connected), '0', 0}
  end
end
if tonumber(balance) + delta < 0 then
  redis.call('HSET', KEYS[7], 'key', key, 'delta', ARGV[3], 'word', 'refused', 'left', balance, 'seq', '0')
  redis.call('PEXPIRE', KEYS[7], ARGV[4])
  return {'refused', balance, '0', 0}
end
if tonumber(balance) + delta > tonumber(ARGV[7]) then
  return {'beyond', balance, '0', 0}
end

redis.call('HINCRBY', KEYS[2], key, ARGV[3])
redis.call('HINCRBY', KEYS[3], key, 1)
local left = redis.call('HGET', KEYS[2], key) -- as text: a number of Lua would be written with an exponent
local seq = redis.call('HGET', KEYS[3], key)
redis.call('HINCRBY', KEYS[4], key, 1)
local fence = redis.call('HGET', KEYS[1], 'fence')
redis.call('XADD', KEYS[6], '*', 'op', op, 'key', key, 'delta', ARGV[3], 'seq', seq, 'fence', fence, 'left', left)
-- No expiry yet: an id lives at least as long as its operation may be delivered again. `ack` gives it one.
redis.call('HSET', KEYS[7], 'key', key, 'delta', ARGV[3], 'word', 'done', 'left', left, 'seq', seq)
return {'done', left, seq, 0}
