--@ clock.lua
-- The next fence of the resource.
local function draw(now)
  -- Never below the time: a counter lost with its data set, or with the last writes of a dead master,
  -- goes on above every number that was given out (F2, F3). Both stay below 2^53 until the year 2255.
  local last = tonumber(redis.call('GET', KEYS[2]) or 0)
  local fence = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', KEYS[2], fence)
  return fence
end
