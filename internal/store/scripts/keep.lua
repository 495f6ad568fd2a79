-- Makes the session, and its notifications, last for another idle timeout, but not longer than the absolute timeout. A
-- user's session also records when it was seen, and takes its place on the user's list again, if a tenth of the idle
-- timeout has passed, if listed is true, or if the list would expire before it. In a cluster the list is on another
-- server, and the library takes the place. Runs.
-- in: idle, left, noted, owned, listed
-- out: relist, the list's name if the library is to take the place; list, handle, lasting, for place.lua
local relist, list, handle, lasting
local ms = left < idle and left or idle
local ttl = ms == IDLE and 'IDLE' or ms
if noted then
  local notes, messages = names(key)
  use('NDB')
  pcall(redis.call, 'PEXPIRE', notes, ttl) -- while a slot moves they may be out of reach
  pcall(redis.call, 'PEXPIRE', messages, ttl)
  use('DB')
end
if owned then
  local seen = redis.call('HMGET', key, 'pycket:seen', 'pycket:list')
  list = not CLUSTER and seen[2] and LIST .. '{' .. seen[2] .. '}'
  if listed or math.abs(now() - (tonumber(seen[1] or nil) or 0)) >= idle / 10
    or list and redis.call('PTTL', list) < ms - 1000 then
    redis.call('HDEL', key, 'pycket:ends') -- after which a full Redis takes the next: see end.lua
    redis.call('HSET', key, 'pycket:seen', now())
    relist, handle = CLUSTER and seen[2], string.sub(key, #SESSION + 2, -2)
    lasting = math.min(ms + math.ceil(idle / 10) + 1000, left)
  else
    list = nil
  end
end
-- The key is not used after this. Before Redis 7.2, PEXPIRE counts from the clock as it is now, but whether a key has
-- expired is decided by the time at which the script began: if the clock was set back meanwhile, the key has expired for
-- the rest of the script. It would be found gone, and made again without a TTL.
redis.call('PEXPIRE', key, ttl)
