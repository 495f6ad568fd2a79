-- Takes sessions that are gone off the list of an account, in a cluster: elsewhere the session's own scripts do.
-- KEYS[1]: the list; ARGV: handles, each with an 'E' if the session was ended, or an 'M' if it is missing. A
-- handle that was ended never lives again. One that is missing may be about to: a login takes its place first.
-- But no place is taken for less than SURE milliseconds and some more, so it was not a moment ago.
local t = redis.call('TIME')
local sure = tonumber(t[1]) * 1000000 + tonumber(t[2]) + SURE * 1000
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and (ARGV[i + 1] == 'E' or tonumber(score) < sure) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return OK
