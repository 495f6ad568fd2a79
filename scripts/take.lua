-- Takes notifications out: whoever is answered a value is the only one who is.
-- ARGV[2…]: names. Answers their values ('V').
if not living then return ended() end
renew()
if not noted then return pack('N', {}) end
select(NDB)
local values = {}
for i = 2, #ARGV do values[i - 1] = redis.call('HGET', notes, ARGV[i]) end
local freed = drop(notes, ARGV, 2)
noted = redis.call('EXISTS', notes, messages) > 0
select(DB)
bytes = bytes - freed
redis.call('HSET', key, 'pycket:id', record())
return pack('V', values)
