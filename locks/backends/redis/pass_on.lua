-- Gives a lock that nobody holds to the first waiter that is still there; answers its token and fence, or
-- nil when nobody waits. A killed process has no receiver on its channel and costs nothing; a stopped one
-- counts as alive until its entry says otherwise (Q2, Q3). `me` is the caller's own token, if it waits:
-- it is told by the answer, so it needs no receiver.
local function pass_on(now, me, my_ttl)
  local fence
  while true do
    local token = redis.call('LPOP', KEYS[3])
    if not token then
      return nil
    end
    local entry = redis.call('HGET', KEYS[4], token)
    if entry then
      redis.call('HDEL', KEYS[4], token)
      local alive, ttl, address = string.match(entry, '^(%d+)|(%d+)|(.+)$')
      if token == me then
        fence = fence or draw(now)
        redis.call('SET', KEYS[1], token .. '|' .. fence, 'PX', my_ttl)
        return token, fence
      end
      if tonumber(alive) >= now then
        fence = fence or draw(now)
        local letter = token .. '|' .. fence .. '|' .. string.format('%.0f', now)
        -- Counted before anything is sent: subscribers at replicas and other nodes get what is sent here, too,
        -- and would take it for a grant that was not made.
        if redis.call('PUBSUB', 'NUMSUB', address)[2] > 0 and redis.call('PUBLISH', address, letter) > 0 then
          redis.call('SET', KEYS[1], token .. '|' .. fence, 'PX', ttl)
          return token, fence
        end
      end
    end
  end
end
