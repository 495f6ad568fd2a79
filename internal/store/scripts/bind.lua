-- Changes what a login changes besides the record and the values. Runs.
-- in: what login leaves; remove, forget, unlist
-- out: verifier, noted, owned, own, idle
redis.call('HSET', key, 'pycket:id', record) -- as it is: a full Redis refuses this, and so the whole
if leaves then
  local was = redis.call('HGET', key, 'pycket:list')
  remove(key, gone)
  if was then unlist(was, key) end
  if noted then
    forget(names(key))
    if CLUSTER then redis.call('HINCRBY', key, 'pycket:notes', 1) end
    noted = false
  end
end
if new ~= '' and new ~= verifier then -- it is the same if this is tried again
  verifier = new
  redis.call('HSET', key, 'pycket:ended', now())
end
owned = user ~= ''
if owned then
  redis.call('HSET', key, 'pycket:user', user, 'pycket:list', hash)
  redis.call('HSETNX', key, 'pycket:agent', agent)
else
  redis.call('HDEL', key, 'pycket:user', 'pycket:list')
end
if auth ~= '0' then
  redis.call('HSET', key, 'pycket:auth', now('micros'))
elseif before ~= user then
  redis.call('HDEL', key, 'pycket:auth')
end
-- Remember is for whoever has asked for it: a user who signs in again, or the stranger who does so now.
if auth ~= '0' and before ~= user and (before or auth ~= 'r') then own, idle = false, IDLE end
if not own then redis.call('HDEL', key, 'pycket:idle') end
