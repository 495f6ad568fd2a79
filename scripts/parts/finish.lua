-- Ends the session under a key, and all that hangs on it; token is of the request that does, if that is its own
-- browser's. What stays for LATE milliseconds is a mark
-- without data, so that a late write can tell "ended just now" from "expired long ago". The mark comes first:
-- while its slot moves to another server of a cluster, a key that is gone can't be made again here, and
-- notifications may be out of reach; those of a session that ended are out of everybody's, and have a TTL.
--
-- To end takes no memory: Redis is asked first for what it does even when it is full (after that it does the rest of
-- a script, too), and without the mark, if there is no room for it, the session ends all the same.
local function finish(key, token)
  local list = redis.call('HGET', key, 'pycket:list')
  local tag = string.sub(key, #PREFIX + 3) .. (CLUSTER and redis.call('HGET', key, 'pycket:notes') or '')
  local names, t = redis.call('HKEYS', key), redis.call('TIME')
  --@ reach
  redis.call('PEXPIRE', key, LATE)
  redis.pcall('HSET', key, 'pycket:ended', t[1] .. string.sub('00000' .. t[2], -6, -4) .. (token and ' ' .. token or ''))
  local others = {}
  for i = 1, #names do
    if names[i] ~= 'pycket:ended' then others[#others + 1] = names[i] end
  end
  for i = 1, #others, 200 do -- unpack has a limit
    redis.call('HDEL', key, unpack(others, i, math.min(i + 199, #others)))
  end
  if NDB ~= DB then redis.call('SELECT', NDB) end
  pcall(redis.call, 'DEL', PREFIX .. 'n:' .. tag)
  pcall(redis.call, 'DEL', PREFIX .. 'm:' .. tag)
  if NDB ~= DB then redis.call('SELECT', DB) end
  if list then unlist(key, list) end
end
