-- What is stored under a key, the server's time, and who fetches it anew.
-- KEYS: the answer, the claim on its refill. Both have one hash tag.
-- ARGV: microseconds for which an answer is fresh; the same of a negative one; milliseconds of a claim, 0 for none.
-- Returns the value or false, the moment, and 1 where somebody else has the claim.
local data = redis.pcall('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if type(data) == 'table' then
  data = ''  -- a key of another type: nothing that we stored
end
local lease = tonumber(ARGV[3])
local refilling = 0
if lease > 0 then
  local moment, kind
  if data then
    moment, kind = string.match(data, '^1 (%d+) (%a) ')
  end
  local fresh = tonumber(kind == 'n' and ARGV[2] or ARGV[1])
  local age = moment and now - tonumber(moment) or -1
  if kind == 'g' or age < 0 or age >= fresh then
    if not redis.call('SET', KEYS[2], '1', 'NX', 'PX', lease) then
      refilling = 1
    end
  end
end
return {data, now, refilling}
