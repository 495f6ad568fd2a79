-- The keys of the notifications. SELECT in a script ends with the script; a cluster has one database and
-- knows no SELECT.
local notes = PREFIX .. 'n:' .. string.sub(key, #PREFIX + 3)
local messages = PREFIX .. 'm:' .. string.sub(key, #PREFIX + 3)
local function select(db)
  if NDB ~= DB then redis.call('SELECT', db) end
end
