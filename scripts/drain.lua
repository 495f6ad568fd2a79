-- Takes all queued messages out, oldest first.
--@ begin
if not living then
  --@ ended
end
--@ renew
if not noted then return {} end
--@ notes
select(NDB)
local list = redis.call('LRANGE', messages, 0, -1)
for i = 1, #list do bytes = bytes - #list[i] end
redis.call('DEL', messages)
noted = redis.call('EXISTS', notes) == 1
select(DB)
--@ store
return list
