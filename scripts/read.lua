-- Reads a session. ARGV[2]: the name wanted; without it, all names are. ARGV[3]: '1' if this request has
-- read another value before.
--
-- A small session is answered whole, so that a request reads once: name, value, name, value … and a 'W'
-- at the end. Of a larger one a request gets the value it wants, and when it wants another, all. Of one
-- larger still it gets values one by one. Names, if not the whole, have an 'N' at the end.
--@ begin
if not living then
  --@ ended
end
--@ renew
if bytes <= SMALL or bytes <= WHOLE and ARGV[3] ~= '0' then
  local all = redis.call('HGETALL', key)
  all[#all + 1] = 'W'
  return all
end
if ARGV[2] then return redis.call('HGET', key, ARGV[2]) end
local names = redis.call('HKEYS', key)
names[#names + 1] = 'N'
return names
