-- Looks at notifications and leaves them. ARGV[2]: the name wanted; without it, all names are, with an 'N' at
-- the end.
--@ begin
if not living then
  --@ ended
end
--@ renew
if not noted then
  if ARGV[2] then return false end
  return {}
end
--@ notes
select(NDB)
if ARGV[2] then return redis.call('HGET', notes, ARGV[2]) end
local names = redis.call('HKEYS', notes)
names[#names + 1] = 'N'
return names
