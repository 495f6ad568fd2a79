-- Sets notifications, all or none. Runs; weigh and write do it.
-- in: ARGV[3…]: name, value, name, value …
-- out: noted, into, last, empty; the notifications' database is selected
local empty = false
noted, into, last = true, names(key), #ARGV
use('NDB')
