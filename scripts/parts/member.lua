-- What is known of a session that an account's list names; nothing, if it is not alive or not the account's.
-- The list may be behind: a session that expired, or changed hands, is taken off it here, where that is one
-- step. In a cluster it is not: a session that signs in is put on the list first.
local function member(key, user, list)
  local fields = redis.pcall('HMGET', key, 'pycket:id', 'pycket:user', 'pycket:seen', 'pycket:auth', 'pycket:agent')
  if not fields.err and fields[1] and fields[2] == user then
    local created, t = tonumber(string.sub(fields[1], 23, 35)) or 0, redis.call('TIME')
    if ABSOLUTE == 0 or t[1] * 1000 + t[2] / 1000 < created + ABSOLUTE then return fields end
  end
  unlist(key, list)
  return nil
end
