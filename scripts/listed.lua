-- Takes note, in a cluster, that the list of its account names a session. KEYS[1]: the session's hash;
-- ARGV[1]: the SHA-1 of the account; ARGV[2]: for how many milliseconds, at least.
local user = redis.call('HGET', KEYS[1], 'pycket:user')
if not user or redis.sha1hex(user) ~= ARGV[1] then return EXPIRED end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'pycket:listed', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]))
return OK
