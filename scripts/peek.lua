-- Looks at notifications and leaves them. ARGV[2]: the name wanted ('V'); without it, all names ('N').
if not living then return ended() end
renew()
if not noted then return pack('N', {}) end
select(NDB)
if ARGV[2] then return pack('V', { redis.call('HGET', notes, ARGV[2]) }) end
return pack('N', redis.call('HKEYS', notes))
