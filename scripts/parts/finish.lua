-- Ends the session under a key, and all that hangs on it. What stays for LATE milliseconds is a mark
-- without data, so that a late write can tell "ended just now" from "expired long ago". In a cluster its place
-- on the account's list stays until it would have expired; who reads the list looks at the session, too.
local function finish(key)
  local user = redis.call('HGET', key, 'pycket:user')
  local tag = string.sub(key, #PREFIX + 3)
  if NDB ~= DB then redis.call('SELECT', NDB) end
  redis.call('DEL', PREFIX .. 'n:' .. tag, PREFIX .. 'm:' .. tag)
  if NDB ~= DB then redis.call('SELECT', DB) end
  redis.call('DEL', key)
  if user and not CLUSTER then redis.pcall('ZREM', PREFIX .. 'u:{' .. redis.sha1hex(user) .. '}', string.sub(tag, 2, -2)) end
  local t = redis.call('TIME')
  redis.call('HSET', key, 'pycket:ended', t[1] .. string.sub('00000' .. t[2], -6, -4))
  redis.call('PEXPIRE', key, LATE)
end
