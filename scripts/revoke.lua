-- Ends a session by its handle, without its id. KEYS[1]: the session's hash.
--@ unlist
--@ finish
if not redis.call('HGET', KEYS[1], 'pycket:id') then return EXPIRED end
finish(KEYS[1])
return OK
