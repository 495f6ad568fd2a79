-- The keys of the notifications. SELECT in a script ends with the script; a cluster has one database and
-- knows no SELECT.
--
-- While a slot moves from one server of a cluster to another, a command on a key that is not here fails, be it
-- that it has moved, or was deleted a moment ago by the same script; so does one on two keys if one is not
-- here. So a script reads what it must know before it changes anything, one key a command, and does by Lua's
-- pcall what may be left undone: redis.pcall knows nothing of the SELECT in miniredis.
--
-- Nor can it be sure of what it deletes. In a cluster, an account that gets a session from another has keys of its
-- own (pycket:notes): what may be left of the others is never looked at.
local tag = string.sub(key, #PREFIX + 3) .. (CLUSTER and redis.call('HGET', key, 'pycket:notes') or '')
local notes, messages = PREFIX .. 'n:' .. tag, PREFIX .. 'm:' .. tag
local function select(db)
  if NDB ~= DB then redis.call('SELECT', db) end
end
