-- Queues a message. ARGV[2]: '1' if it begins the session; ARGV[3]: the message.
local s, ended = open(ARGV[2])
if not s then return ended end
if not grow(s, #ARGV[3]) then return TOOLARGE end
local _, messages = notifications(key)
use(NDB)
redis.call('RPUSH', messages, ARGV[3])
use(DB)
s.noted = true
redis.call('HSET', key, 'pycket:id', format(s))
return done(s, OK)
