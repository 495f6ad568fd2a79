-- Sets notifications, all or none. ARGV[2]: '1' if the session may be made by this, 'r' to put back
-- what was taken (only a name that nobody has set since); ARGV[3…]: name, value, name, value …
--@ begin
if not living then
  --@ born
end
--@ notes
local target, empty = notes, false
select(NDB)
if ARGV[2] == 'r' and redis.call('HEXISTS', notes, ARGV[3]) == 1 then return OK end
if ARGV[2] == 'r' then -- it was counted before
  bytes = bytes + #ARGV[3] + #ARGV[4]
else
  --@ grow
end
for i = 3, #ARGV, 200 do -- unpack has a limit
  redis.call('HSET', notes, unpack(ARGV, i, math.min(i + 199, #ARGV)))
end
select(DB)
noted = true
--@ store
--@ keep
return OK
