-- Parked entries of a key back into the stream, in their order; the key thaws.
-- KEYS: stream, parked, frozen
-- ARGV: key
local back = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  if fields['key'] == ARGV[1] then
    back[#back + 1] = {tonumber(fields['seq']), entry}
  end
end
table.sort(back, function(a, b) return a[1] < b[1] end)
for _, found in ipairs(back) do
  redis.call('XADD', KEYS[1], '*', unpack(found[2][2]))
  redis.call('XDEL', KEYS[2], found[2][1])
end
redis.call('HDEL', KEYS[3], ARGV[1])
return #back
