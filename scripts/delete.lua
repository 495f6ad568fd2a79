-- Deletes values of a session. ARGV[2…]: names. An emptied session is still a session.
if not living then return ended() end
local freed = drop(key, ARGV, 2)
if freed > 0 then
  bytes = bytes - freed
  redis.call('HSET', key, 'pycket:id', record())
end
keep(allowed())
return OK
