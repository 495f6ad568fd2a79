-- Takes notifications out: whoever is answered a value is the only one who is.
-- ARGV[2…]: names. Answers their values.
--@ begin
if not living then
  --@ ended
end
--@ renew
if not noted then return {} end
--@ notes
select(NDB)
local values = {}
for i = 2, #ARGV do values[i - 1] = redis.call('HGET', notes, ARGV[i]) end
local target = notes
--@ drop
noted = redis.call('EXISTS', notes) + redis.call('EXISTS', messages) > 0 -- one by one, see parts/apart.lua
select(DB)
--@ store
return values
