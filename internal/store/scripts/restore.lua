-- Puts a notification back that was taken, unless one of its name has been set since. ARGV[2]: name; ARGV[3]: value.
local s, ended = open()
if not s then return ended end
local notes = notifications(key)
use(NDB)
local set = redis.call('HSETNX', notes, ARGV[2], ARGV[3])
use(DB)
if set == 0 then return OK end
s.noted, s.bytes = true, s.bytes + #ARGV[2] + #ARGV[3] -- which it had before: no limit is asked
redis.call('HSET', key, 'pycket:id', format(s))
return done(s, OK)
