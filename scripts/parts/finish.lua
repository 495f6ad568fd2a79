-- Ends the session under a key, and all that hangs on it. What stays for LATE milliseconds is a mark
-- without data, so that a late write can tell "ended just now" from "expired long ago". In a cluster its place
-- on the account's list stays until it would have expired; who reads the list looks at the session, too.
local function finish(key)
  local user, record = redis.call('HGET', key, 'pycket:user'), redis.call('HGET', key, 'pycket:id')
  local tag, flags = string.sub(key, #PREFIX + 3), tonumber(string.sub(record or '', 36, 36))
  if not flags or flags % 2 == 1 then -- it has notifications, as far as is known
    if NDB ~= DB then redis.call('SELECT', NDB) end
    redis.call('DEL', PREFIX .. 'n:' .. tag)
    redis.call('DEL', PREFIX .. 'm:' .. tag)
    if NDB ~= DB then redis.call('SELECT', DB) end
  end
  redis.call('DEL', key)
  if user and not CLUSTER then redis.pcall('ZREM', PREFIX .. 'u:{' .. redis.sha1hex(user) .. '}', string.sub(tag, 2, -2)) end
  local t = redis.call('TIME')
  redis.call('HSET', key, 'pycket:ended', t[1] .. string.sub('00000' .. t[2], -6, -4))
  redis.call('PEXPIRE', key, LATE)
end
