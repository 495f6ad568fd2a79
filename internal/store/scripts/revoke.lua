-- Ends a session by its handle, without its id. Runs, last.
-- in: finish, later
-- returns: OK, EXPIRED, LATER
local record = redis.call('HGET', key, 'pycket:id')
if not record then return EXPIRED end
if later(record) then return LATER end
finish(key, '')
return OK
