-- Writes the record, if what it says has changed.
local counted = string.sub(record, 1, 35) .. (noted and 'n' or '-') .. string.format('%.0f', bytes)
if counted ~= record then redis.call('HSET', key, 'pycket:id', counted) end
