-- Puts a session on a user's list. Runs; place does it, and places answers.
-- in: KEYS[1]: the list; ARGV[1]: the session's handle; ARGV[2]: for how many milliseconds the list must last
-- out: list, handle, lasting
local list, handle, lasting = KEYS[1], ARGV[1], tonumber(ARGV[2])
