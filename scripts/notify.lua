-- Sets notifications, all or none. ARGV[2]: '1' if the session may be made by this, 'r' to put back
-- what was taken (only a name that nobody has set since); ARGV[3…]: name, value, name, value …
--@ begin
if not living then
  --@ born
end
--@ notes
local target = notes
select(NDB)
if ARGV[2] == 'r' and redis.call('HEXISTS', notes, ARGV[3]) == 1 then return OK end
--@ grow
--@ put
select(DB)
noted = true
--@ count
--@ keep
return OK
