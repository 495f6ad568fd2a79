-- Takes a session off the list of an account. In a cluster that is no part of a script on the session: its place
-- stays until it would have expired, or somebody who reads the list takes it off; see prune.lua.
local function unlist(key, user)
  if not CLUSTER then redis.pcall('ZREM', PREFIX .. 'u:{' .. redis.sha1hex(user) .. '}', string.sub(key, #PREFIX + 4, -2)) end
end
