--@ clock.lua
-- Tells everybody who watches that the document has changed; who is not there any more is forgotten.
local function hint(now, version)
  local watchers = redis.call('HGETALL', KEYS[2])
  for number = 1, #watchers, 2 do
    local alive, address = string.match(watchers[number + 1], '^(%d+)|(.+)$')
    local letter = watchers[number] .. '|' .. version .. '|' .. string.format('%.0f', now)
    if not alive or tonumber(alive) < now or redis.call('PUBLISH', address, letter) == 0 then
      redis.call('HDEL', KEYS[2], watchers[number])
    end
  end
end
