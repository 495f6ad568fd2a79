-- Makes all that Apps have stored older, as if it had happened earlier. docs/storage.md has the layout. Of a user's list
-- only the TTL moves, since its order stays.
-- ARGV[1]: by how many milliseconds; ARGV[2…]: database, prefix, database, prefix …
local by = tonumber(ARGV[1])

-- earlier returns a time, in units of which a millisecond has some, in so many digits or more.
local function earlier(at, units, digits)
  return string.format('%0' .. digits .. '.0f', math.max(0, (tonumber(at) or 0) - by * units))
end

local function age(key, field, units)
  local at, rest = string.match(redis.call('HGET', key, field) or '', '^(%d+)(.*)$')
  if at then redis.call('HSET', key, field, earlier(at, units, 1) .. rest) end
end

for i = 2, #ARGV, 2 do
  redis.call('SELECT', ARGV[i])
  local prefix = ARGV[i + 1]
  for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind = string.sub(key, 1, #prefix) == prefix and string.sub(key, #prefix + 1, #prefix + 2)
    local left = kind and redis.call('PTTL', key) or -1
    if left >= 0 and left <= by then
      redis.call('DEL', key)
      kind = nil
    elseif left >= 0 then
      redis.call('PEXPIRE', key, left - by)
    end
    if kind == 's:' then
      local record = redis.call('HGET', key, 'pycket:id')
      if record then
        redis.call('HSET', key, 'pycket:id', string.sub(record, 1, 22) .. earlier(string.sub(record, 23, 35), 1, 13) .. string.sub(record, 36))
      end
      age(key, 'pycket:ended', 1)
      age(key, 'pycket:seen', 1)
      age(key, 'pycket:auth', 1000)
    end
  end
end
