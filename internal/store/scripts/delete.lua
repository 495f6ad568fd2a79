-- Deletes values of a session. A session without values is still a session. Runs.
-- in: ARGV[2…]: names
-- out: bytes
for i = 2, #ARGV do
  local old = redis.call('HSTRLEN', key, ARGV[i])
  if redis.call('HDEL', key, ARGV[i]) == 1 then bytes = bytes - old - #ARGV[i] end
end
