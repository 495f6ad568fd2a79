-- Refuses values that would make the session too large, and counts them. target: the hash they go into;
-- empty: it is known to hold nothing; ARGV[3…]: name, value, name, value …
local more = 0
for i = 3, #ARGV, 2 do
  more = more + #ARGV[i + 1]
  local old = empty and 0 or redis.call('HSTRLEN', target, ARGV[i])
  if old == 0 and (empty or redis.call('HEXISTS', target, ARGV[i]) == 0) then old = -#ARGV[i] end
  more = more - old
end
if more > 0 and bytes + more > MAXBYTES then return TOOLARGE end
bytes = bytes + more
