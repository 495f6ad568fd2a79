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
local reached, exists = pcall(redis.call, 'EXISTS', notes)
noted = not reached or exists == 1
redis.call('DEL', messages)
select(DB)
--@ store
return list
