-- Deletes all values of a session. Notifications and the session's own fields stay. Runs.
-- in: remove
-- out: bytes
local values = {}
for _, name in ipairs(redis.call('HKEYS', key)) do
  if string.sub(name, 1, 7) ~= 'pycket:' then
    values[#values + 1] = name
    bytes = bytes - #name - redis.call('HSTRLEN', key, name)
  end
end
remove(key, values)
