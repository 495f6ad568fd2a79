-- Binds a session to an account, in one step with its new id and its values.
--
-- ARGV[2]: '1' if the session may be made by this; ARGV[3…]: name, value, name, value …; then, last, the
-- verifier of the new id (or of the old, to keep it), the account ('' for none), '1' if this is an
-- authentication, and the browser's user agent.
--@ begin
--@ finish
--@ member
if not living then
  --@ born
end
local agent, auth, user, verifier = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
local target, empty = key, false
--@ grow
local before = redis.call('HGET', key, 'pycket:user')
local handle = string.sub(key, #PREFIX + 4, -2)
if before and before ~= user then
  redis.call('ZREM', PREFIX .. 'u:{' .. redis.sha1hex(before) .. '}', handle)
end
owned = user ~= ''
if auth == '1' then -- Remember was for whoever signed in before
  redis.call('HDEL', key, 'pycket:idle')
  idle = IDLE
end
--@ count
local at = string.format('%.0f', now())
if verifier ~= ARGV[1] then
  record = verifier .. string.sub(record, 23)
  redis.call('HSET', key, 'pycket:ended', at)
end
redis.call('HSET', key, 'pycket:id', record)
for i = 3, #ARGV, 200 do -- unpack has a limit
  redis.call('HSET', key, unpack(ARGV, i, math.min(i + 199, #ARGV)))
end
if owned then
  redis.call('HSET', key, 'pycket:user', user)
  redis.call('HSETNX', key, 'pycket:agent', agent)
else
  redis.call('HDEL', key, 'pycket:user')
end
if auth == '1' or not owned or before ~= user then redis.call('HDEL', key, 'pycket:auth') end
if auth == '1' then redis.call('HSET', key, 'pycket:auth', at) end
--@ keep
if owned then
  local list = PREFIX .. 'u:{' .. redis.sha1hex(user) .. '}'
  -- The order of signing in, to the microsecond: two may come within a millisecond.
  local t = redis.call('TIME')
  if auth == '1' or before ~= user then redis.pcall('ZADD', list, t[1] .. string.sub('00000' .. t[2], -6), handle) end
  local count = redis.pcall('ZCARD', list)
  if auth == '1' and MAXSESSIONS > 0 and type(count) == 'number' and count > MAXSESSIONS then
    local alive = {}
    for _, other in ipairs(redis.call('ZRANGE', list, 0, -1)) do
      if member(list, other, user) then alive[#alive + 1] = other end
    end
    for i = 1, #alive - MAXSESSIONS do finish(PREFIX .. 's:{' .. alive[i] .. '}') end
  end
end
return OK
