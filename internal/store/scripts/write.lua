-- Sets values and, if it has changed, the record: in one HSET where they are in one hash. Runs.
-- in: into, first, last; what open leaves
-- out: the session's database is selected
local digit = (noted and 1 or 0) + (owned and 2 or 0) + (own and 4 or 0)
local changed = fresh or verifier ~= id or bytes ~= size or digit ~= flags
if changed then record = verifier .. string.sub(record, 23, 35) .. digit .. bytes end
if changed and into == key then
  first = first - 2
  ARGV[first], ARGV[first + 1] = 'pycket:id', record
end
for i = first, last, 200 do -- unpack has a limit
  redis.call('HSET', into, unpack(ARGV, i, math.min(i + 199, last)))
end
if into ~= key then
  use('DB')
  if changed then redis.call('HSET', key, 'pycket:id', record) end
end
