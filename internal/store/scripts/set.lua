-- Sets values of a session, all or none. Runs; weigh and write do it.
-- in: ARGV[3…]: name, value, name, value …
-- out: last, empty
local empty = fresh
last = #ARGV
