-- Sets one value of a session if what stands there is what the caller has seen.
-- ARGV[2]: '1' if the session may be made by this; ARGV[3]: name; ARGV[4]: value;
-- ARGV[5]: the value seen, absent if there was none. Otherwise answers what stands there ('V').
if not living then
  if ARGV[2] ~= '1' then return ended() end
  if redis.call('EXISTS', key) == 1 then return TAKEN end
  born()
end
local stands = redis.call('HGET', key, ARGV[3])
if stands ~= (ARGV[5] or false) then return pack('V', { stands }) end
local more = #ARGV[4] - (stands and #stands or -#ARGV[3])
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
bytes = bytes + more
redis.call('HSET', key, 'pycket:id', record(), ARGV[3], ARGV[4])
keep(allowed())
return OK
