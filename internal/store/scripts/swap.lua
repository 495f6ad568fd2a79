-- Sets one value of a session if it is still what the caller has seen; otherwise answers what it is now. Runs.
-- in: ARGV[3]: name; ARGV[4]: value; ARGV[5]: the value seen, absent for none
-- out: last, bytes
-- returns: TOOLARGE or '', the value and id
local old = redis.call('HGET', key, ARGV[3])
if old ~= (ARGV[5] or false) then return { '', old, id } end
local more = #ARGV[4] - (old and #old or -#ARGV[3])
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
bytes, last = bytes + more, 4
