-- Sets notifications, all or none. ARGV[2]: '1' if the session may be made by this, 'r' to put back
-- what was taken (only names that nobody has set since); ARGV[3…]: name, value, name, value …
if not living then
  if ARGV[2] ~= '1' then return ended() end
  if redis.call('EXISTS', key) == 1 then return TAKEN end
  born()
end
select(NDB)
if ARGV[2] == 'r' and redis.call('HEXISTS', notes, ARGV[3]) == 1 then return OK end
local more = growth(notes, ARGV, 3)
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
put(notes, ARGV, 3)
select(DB)
bytes, noted = bytes + more, true
redis.call('HSET', key, 'pycket:id', record())
keep(allowed())
return OK
