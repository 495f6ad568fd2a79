-- Gives a session an idle timeout of its own. ARGV[2]: milliseconds.
local s, ended = open()
if not s then return ended end
s.own, s.idle = true, tonumber(ARGV[2])
redis.call('HSET', key, 'pycket:id', format(s), 'pycket:idle', ARGV[2])
return done(s, OK, true)
