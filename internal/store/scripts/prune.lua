-- Takes sessions that were found dead, or another user's, off a list. A place that was taken a moment ago stays: it may
-- be that of a login under way, which takes it first. Runs, last.
-- in: KEYS[1]: the list; ARGV: handles
-- returns: OK
local oldest = (now() - GRACE) * 1000
for i = 1, #ARGV do
  local taken = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if taken and tonumber(taken) < oldest then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return OK
