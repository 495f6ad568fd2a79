-- Sets values of a session, all or none. ARGV[2]: '1' if the session may be made by this;
-- ARGV[3…]: name, value, name, value …
if not living then
  if ARGV[2] ~= '1' then return ended() end
  if redis.call('EXISTS', key) == 1 then return TAKEN end
  born()
end
local more = growth(key, ARGV, 3)
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
bytes = bytes + more
redis.call('HSET', key, 'pycket:id', record())
put(key, ARGV, 3)
keep(allowed())
return OK
