-- Takes all queued messages out, oldest first ('V').
if not living then return ended() end
renew()
if not noted then return pack('N', {}) end
select(NDB)
local list = redis.call('LRANGE', messages, 0, -1)
for i = 1, #list do bytes = bytes - #list[i] end
redis.call('DEL', messages)
noted = redis.call('EXISTS', notes) == 1
select(DB)
redis.call('HSET', key, 'pycket:id', record())
return pack('V', list)
