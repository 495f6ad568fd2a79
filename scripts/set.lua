-- Sets values of a session, all or none. ARGV[2]: '1' if the session may be made by this;
-- ARGV[3…]: name, value, name, value …
--@ begin
if not living then
  --@ born
end
local target, empty = key, not living
--@ grow
--@ count
for i = 3, #ARGV, 200 do -- unpack has a limit
  redis.call('HSET', key, 'pycket:id', record, unpack(ARGV, i, math.min(i + 199, #ARGV)))
end
--@ keep
return OK
