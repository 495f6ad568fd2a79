-- Puts a session on the list of its account for so many milliseconds. Its score is the time, in microseconds,
-- until which it may be alive, and never becomes less: another request may count on it. The list lives as long
-- as the last of them. list, handle, ms: what and how long. A key of another type is left alone. Any other error is
-- one in a cluster, where this is all that is done; elsewhere the session was written before, so that Redis refuses
-- nothing any more.
local t = redis.call('TIME')
local till = string.format('%.0f', tonumber(t[1]) * 1000000 + tonumber(t[2]) + ms * 1000)
local added = redis.pcall('ZADD', list, 'GT', till, handle)
if type(added) == 'number' then
  if redis.call('PTTL', list) < ms then redis.call('PEXPIRE', list, ms) end
elseif CLUSTER and not string.find(added.err, 'WRONGTYPE', 1, true) then
  return added
end
