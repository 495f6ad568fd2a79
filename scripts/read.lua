-- Reads a session. ARGV[2]: the name wanted; without it, all names are.
--
-- A small session is answered whole ('W': name, value, name, value …), so that a request reads once.
-- Of a large one only what was wanted comes: the value ('V') or the names ('N').
if not living then return ended() end
renew()
if bytes <= WHOLE then return pack('W', redis.call('HGETALL', key)) end
if ARGV[2] then return pack('V', { redis.call('HGET', key, ARGV[2]) }) end
return pack('N', redis.call('HKEYS', key))
