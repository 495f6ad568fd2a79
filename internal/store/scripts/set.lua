-- Sets values of a session, all or none.
-- ARGV[2]: '1' if it begins the session; ARGV[3…]: name, value, name, value …
local s, ended = open(ARGV[2])
if not s then return ended end
if not grow(s, weigh(key, 3, s.new)) then return TOOLARGE end
ARGV[1], ARGV[2] = 'pycket:id', format(s)
put(key, ARGV[2] == s.record and 3 or 1) -- the record, if it has changed, in one HSET with the values
return done(s, OK)
