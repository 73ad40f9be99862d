-- Stores an answer with the moment at which its origin was asked, on this server's clock.
-- KEYS: the answer, the claim on its refill.
-- ARGV: microseconds since that moment when this was sent; the moment as far as the sender knows this clock, or '';
--       milliseconds that the answer lives from then; the packed answer.
-- The earlier of the two moments counts: what was held up on its way must not look younger than it is.
-- Returns 1 and the moment of now, or 0 where a newer answer is there or this one has outlived itself.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local moment = now - tonumber(ARGV[1])
local told = tonumber(ARGV[2])
if told and told < moment then
  moment = told
end
local head = redis.pcall('GETRANGE', KEYS[1], 0, 24)
if type(head) == 'string' then
  local there = tonumber(string.match(head, '^1 (%d+) ') or '')
  if there and there > moment and there <= now then
    return {0, now}
  end
end
local left = tonumber(ARGV[3]) - math.ceil((now - moment) / 1000)
if left < 1 or moment < 0 then
  return {0, now}
end
redis.call('SET', KEYS[1], '1 ' .. string.format('%.0f', moment) .. ' ' .. ARGV[4], 'PX', left)
redis.call('DEL', KEYS[2])
return {1, now}
