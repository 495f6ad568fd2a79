-- Ends a session by its handle, without its id. Runs, last.
-- in: finish
-- returns: OK, EXPIRED
if redis.call('HEXISTS', key, 'pycket:id') == 0 then return EXPIRED end
finish(key, '')
return OK
