-- Binds a session to a user, in one step with its new id and its values. What another user has left in it goes.
--
-- ARGV[2]: '1' if it begins the session; ARGV[3]: the verifier of the new id, '' to keep the id; ARGV[4]: the user,
-- '' for none; ARGV[5]: the hash that names the user's list; ARGV[6]: '1' for an authentication, 'r' for one in a
-- request that has called Remember, '0' for none; ARGV[7]: the browser's user agent; ARGV[8…]: name, value …
--
-- Answers the session's own idle timeout, '' if it has none, and how many places the user's list has.
local s, ended = open(ARGV[2])
if not s then return ended end
if MAXSESSIONS > 0 then reach() end -- others may end
local verifier, user, hash, auth, agent = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local login = auth ~= '0'
local before, was = redis.call('HGET', key, 'pycket:user'), redis.call('HGET', key, 'pycket:list')
local leaves, gone = before and before ~= user, {}
if leaves then
  s.bytes = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 7) ~= 'pycket:' or name == 'pycket:agent' then gone[#gone + 1] = name end
  end
end
if not grow(s, weigh(key, 8, s.new or leaves)) then return TOOLARGE end

-- Remember is for whoever has asked for it: a user who signs in again, or the stranger who does so now.
if login and before ~= user and (before or auth ~= 'r') then s.own, s.idle = false, IDLE end
local noted = s.noted
s.owned, s.noted = user ~= '', noted and not leaves
if verifier ~= '' and verifier ~= s.verifier then -- it is the same if this is tried again
  s.verifier = verifier
  ended = whole(now())
end
redis.call('HSET', key, 'pycket:id', format(s)) -- first: a full Redis refuses it, and so the whole
if ended then redis.call('HSET', key, 'pycket:ended', ended) end
if leaves then
  remove(key, gone)
  if was then unlist(was, key) end
  if noted then
    forget(notifications(key))
    if CLUSTER then redis.call('HINCRBY', key, 'pycket:notes', 1) end
  end
end
if not s.own then redis.call('HDEL', key, 'pycket:idle') end
put(key, 8)
if s.owned then
  redis.call('HSET', key, 'pycket:user', user, 'pycket:list', hash)
  redis.call('HSETNX', key, 'pycket:agent', agent)
else
  redis.call('HDEL', key, 'pycket:user', 'pycket:list')
end
if login then
  now()
  redis.call('HSET', key, 'pycket:auth', whole(time[1] * 1000000 + time[2])) -- microseconds
elseif before ~= user then
  redis.call('HDEL', key, 'pycket:auth')
end
keep(s, true)

if login and MAXSESSIONS > 0 and not CLUSTER then -- the oldest end; in a cluster the library does this
  local handles, others = redis.pcall('ZRANGE', PREFIX .. 'u:{' .. hash .. '}', 0, -1), {}
  for i = 1, handles.err and 0 or #handles do -- a key of another type is not pycket's
    local k = PREFIX .. 's:{' .. handles[i] .. '}'
    local fields = member(k, user)
    if not fields then
      unlist(hash, k)
    elseif k ~= key then
      others[#others + 1] = { k, tonumber(fields[4] or nil) or (tonumber(string.sub(fields[1], 23, 35)) or 0) * 1000 }
    end
  end
  table.sort(others, function(a, b) return a[2] < b[2] end)
  for i = 1, #others + 1 - MAXSESSIONS do finish(others[i][1], '') end
end
return { s.own and whole(s.idle) or '', tostring(s.places or 0) }
