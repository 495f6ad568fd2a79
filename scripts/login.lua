-- Binds a session to an account, in one step with its new id and its values. If it was another account's, the
-- values and notifications of that go, in the same step.
--
-- ARGV[2]: '1' if the session may be made by this; ARGV[3…]: name, value, name, value …; then, last, the
-- verifier of the new id ('' to keep the old), the account ('' for none) and its SHA-256, '1' if this is an
-- authentication and 'r' if whoever signs in has also asked to be remembered, the browser's user agent, and, in a
-- cluster, for how many milliseconds the account's list is sure to name the session.
--
-- Answers the session's own idle timeout, in milliseconds, if it keeps one that Remember has set.
--@ begin
--@ unlist
--@ finish
--@ member
--@ notes
if not living then
  --@ born
end
local sure = tonumber(table.remove(ARGV))
local agent, auth, hash = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
local user, verifier = table.remove(ARGV), table.remove(ARGV)
local before, was = redis.call('HGET', key, 'pycket:user'), redis.call('HGET', key, 'pycket:list')
local leaves, gone = before and before ~= user, {}
if leaves then
  bytes = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 7) ~= 'pycket:' or name == 'pycket:agent' then gone[#gone + 1] = name end
  end
end
local target, empty = key, leaves
--@ grow
owned = user ~= ''
-- Remember is for whoever has asked for it: an account that signs in again, or the stranger who does so now.
local login = auth ~= '0'
local own = redis.call('HEXISTS', key, 'pycket:idle') == 1
if login and own and before ~= user and (before or auth ~= 'r') then own = false end
if not own then idle = IDLE end
if CLUSTER and owned then
  if idle > sure then return redis.status_reply('L' .. string.format('%.0f', idle)) end -- a longer place is needed
  listed = now() + sure
  redis.call('HSET', key, 'pycket:listed', string.format('%.0f', listed))
end
local waits = noted
if leaves then noted = false end
--@ count
if MAXSESSIONS > 0 then -- others may end
  --@ reach
end
local t = redis.call('TIME')
if verifier ~= '' and verifier ~= id then -- it is the same if this is tried again
  record = verifier .. string.sub(record, 23)
  redis.call('HSET', key, 'pycket:ended', t[1] .. string.sub('00000' .. t[2], -6, -4))
end
redis.call('HSET', key, 'pycket:id', record) -- first, so that a Redis that is full refuses the login
if leaves then
  if was then unlist(key, was) end
  for i = 1, #gone, 200 do -- unpack has a limit
    redis.call('HDEL', key, unpack(gone, i, math.min(i + 199, #gone)))
  end
  if waits then
    select(NDB)
    pcall(redis.call, 'DEL', notes)
    pcall(redis.call, 'DEL', messages)
    select(DB)
    if CLUSTER then redis.call('HINCRBY', key, 'pycket:notes', 1) end
  end
end
if not own then redis.call('HDEL', key, 'pycket:idle') end
for i = 3, #ARGV, 200 do -- unpack has a limit
  redis.call('HSET', key, unpack(ARGV, i, math.min(i + 199, #ARGV)))
end
if owned then
  redis.call('HSET', key, 'pycket:user', user, 'pycket:list', hash)
  redis.call('HSETNX', key, 'pycket:agent', agent)
else
  redis.call('HDEL', key, 'pycket:user', 'pycket:list', 'pycket:listed', 'pycket:asked')
end
if login or not owned or before ~= user then redis.call('HDEL', key, 'pycket:auth') end
if login then redis.call('HSET', key, 'pycket:auth', t[1] .. string.sub('00000' .. t[2], -6)) end
--@ keep
if login and not CLUSTER then
  local list = PREFIX .. 'u:{' .. hash .. '}'
  --@ tidy
  local count = redis.pcall('ZCARD', list)
  if MAXSESSIONS > 0 and type(count) == 'number' and count > MAXSESSIONS then
    local alive = {}
    for _, handle in ipairs(redis.call('ZRANGE', list, 0, -1)) do
      local other = PREFIX .. 's:{' .. handle .. '}'
      local fields = member(other, user, hash)
      if fields and other ~= key then
        alive[#alive + 1] = { other, tonumber(fields[4] or nil) or (tonumber(string.sub(fields[1], 23, 35)) or 0) * 1000 }
      end
    end
    table.sort(alive, function(a, b) return a[2] < b[2] end)
    for i = 1, #alive + 1 - MAXSESSIONS do finish(alive[i][1]) end
  end
end
return own and string.format('%.0f', idle) or OK
