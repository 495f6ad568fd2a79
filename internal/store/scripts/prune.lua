-- Takes sessions that were found dead, or another user's, off a list. KEYS[1]: the list; ARGV: handles. A place
-- that was taken a moment ago stays: it may be that of a login under way, which takes it first.
local oldest = (now() - GRACE) * 1000
for i = 1, #ARGV do
  local taken = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if taken and tonumber(taken) < oldest then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return OK
