-- Takes a session off the list of an account; list: the SHA-256 of that. In a cluster that is no part of a script on the session: its place
-- stays until it would have expired, or somebody who reads the list takes it off; see prune.lua.
local function unlist(key, list)
  if not CLUSTER then redis.pcall('ZREM', PREFIX .. 'u:{' .. list .. '}', string.sub(key, #PREFIX + 4, -2)) end
end
