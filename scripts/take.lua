-- Takes notifications out: whoever is answered a value is the only one who is.
-- ARGV[2…]: names, once each. Answers their values.
--@ begin
if not living then
  --@ ended
end
--@ renew
if not noted then return {} end
--@ notes
select(NDB)
local all, values, taken = redis.call('HLEN', notes), {}, {}
for i = 2, #ARGV do
  local value = redis.call('HGET', notes, ARGV[i])
  values[i - 1] = value
  if value then
    taken[#taken + 1] = ARGV[i]
    bytes = bytes - #value - #ARGV[i]
  end
end
local reached, exists = pcall(redis.call, 'EXISTS', messages)
noted = all > #taken or not reached or exists == 1
for i = 1, #taken, 200 do -- unpack has a limit
  redis.call('HDEL', notes, unpack(taken, i, math.min(i + 199, #taken)))
end
select(DB)
--@ store
return values
