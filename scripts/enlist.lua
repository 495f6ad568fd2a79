-- Puts a session on the list of its account, in a cluster: elsewhere the session's own scripts do.
-- KEYS[1]: the list; ARGV[1]: the session's handle; ARGV[2]: for how many milliseconds, at least.
local list, handle, ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
--@ enlist
--@ tidy
return OK
