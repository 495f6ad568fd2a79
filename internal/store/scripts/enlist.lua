-- Puts a session on a user's list. KEYS[1]: the list; ARGV[1]: the session's handle; ARGV[2]: for how many
-- milliseconds the list must last. Answers how many places the list has.
return { tostring(place(KEYS[1], ARGV[1], tonumber(ARGV[2]))) }
