-- Queues a message. ARGV[2]: '1' if the session may be made by this; ARGV[3]: the message.
if not living then
  if ARGV[2] ~= '1' then return ended() end
  if redis.call('EXISTS', key) == 1 then return TAKEN end
  born()
end
if bytes + #ARGV[3] > MAXBYTES then return TOOLARGE end
select(NDB)
redis.call('RPUSH', messages, ARGV[3])
select(DB)
bytes, noted = bytes + #ARGV[3], true
redis.call('HSET', key, 'pycket:id', record())
keep(allowed())
return OK
