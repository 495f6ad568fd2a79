-- Takes note, in a cluster, that the list of its account names a session. KEYS[1]: the session's hash;
-- ARGV[1]: the SHA-256 of the account; ARGV[2]: until when, by this server's clock: counted from before the list
-- was written to, so that it does not matter when this comes.
if redis.call('HGET', KEYS[1], 'pycket:list') ~= ARGV[1] then return EXPIRED end
redis.call('HSET', KEYS[1], 'pycket:listed', ARGV[2])
return OK
