-- Deletes values of a session. ARGV[2…]: names. A session without values is still a session.
local s, ended = open()
if not s then return ended end
for i = 2, #ARGV do
  local old = redis.call('HSTRLEN', key, ARGV[i])
  if redis.call('HDEL', key, ARGV[i]) == 1 then s.bytes = s.bytes - old - #ARGV[i] end
end
redis.call('HSET', key, 'pycket:id', format(s))
return done(s, OK)
