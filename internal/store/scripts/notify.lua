-- Sets notifications, all or none.
-- ARGV[2]: '1' if it begins the session; ARGV[3…]: name, value, name, value …
local s, ended = open(ARGV[2])
if not s then return ended end
local notes = notifications(key)
use(NDB)
if not grow(s, weigh(notes, 3, false)) then return TOOLARGE end
put(notes, 3)
use(DB)
s.noted = true
redis.call('HSET', key, 'pycket:id', format(s))
return done(s, OK)
