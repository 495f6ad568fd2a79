-- Deletes values of a session. ARGV[2…]: names. An emptied session is still a session.
--@ begin
if not living then
  --@ ended
end
for i = 2, #ARGV do
  local old = redis.call('HSTRLEN', key, ARGV[i])
  if redis.call('HDEL', key, ARGV[i]) == 1 then bytes = bytes - old - #ARGV[i] end
end
--@ store
--@ keep
return OK
