-- Counts the bytes of values that are to be set. Runs.
-- in: into, first, last; empty, the hash is known to hold nothing
-- out: bytes
-- returns: TOOLARGE
local more = 0
for i = first, last, 2 do
  local old = empty and 0 or redis.call('HSTRLEN', into, ARGV[i])
  if old == 0 and (empty or redis.call('HEXISTS', into, ARGV[i]) == 0) then old = -#ARGV[i] end
  more = more + #ARGV[i + 1] - old
end
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
bytes = bytes + more
