-- Writes the record, if what it says has changed.
local before = record
--@ count
if record ~= before then redis.call('HSET', key, 'pycket:id', record) end
