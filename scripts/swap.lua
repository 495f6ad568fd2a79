-- Sets one value of a session if what stands there is what the caller has seen, and otherwise answers
-- what stands there. ARGV[2]: '1' if the session may be made by this; ARGV[3]: name; ARGV[4]: value;
-- ARGV[5]: the value seen, absent if there was none.
--@ begin
if not living then
  --@ born
end
local stands = redis.call('HGET', key, ARGV[3])
if stands ~= (ARGV[5] or false) then return stands end
local more = #ARGV[4] - (stands and #stands or -#ARGV[3])
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
bytes = bytes + more
--@ store
redis.call('HSET', key, ARGV[3], ARGV[4])
--@ keep
return OK
