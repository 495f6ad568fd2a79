-- Sets one value of a session if it still is what the caller has seen; otherwise answers what it is now.
-- ARGV[2]: '1' if it begins the session; ARGV[3]: name; ARGV[4]: value; ARGV[5]: the value seen, absent for none.
local s, ended = open(ARGV[2])
if not s then return ended end
local old = redis.call('HGET', key, ARGV[3])
if old ~= (ARGV[5] or false) then return old end
if not grow(s, #ARGV[4] - (old and #old or -#ARGV[3])) then return TOOLARGE end
redis.call('HSET', key, 'pycket:id', format(s), ARGV[3], ARGV[4])
return done(s, OK)
