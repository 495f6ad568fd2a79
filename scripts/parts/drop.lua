-- Deletes values. target: the hash they are in; ARGV[2…]: names.
for i = 2, #ARGV do
  local old = redis.call('HSTRLEN', target, ARGV[i])
  if redis.call('HDEL', target, ARGV[i]) == 1 then bytes = bytes - old - #ARGV[i] end
end
