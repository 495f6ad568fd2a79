-- What is known of a session on the list of an account; nothing, if it is not alive or not the account's.
-- The list may be behind: a session that expired, or changed hands, is taken off it here.
local function member(list, handle, user)
  local fields = redis.pcall('HMGET', PREFIX .. 's:{' .. handle .. '}', 'pycket:id', 'pycket:user', 'pycket:seen', 'pycket:auth', 'pycket:agent')
  if fields.err or not fields[1] or fields[2] ~= user then
    redis.call('ZREM', list, handle)
    return nil
  end
  return fields
end
