-- Takes notifications out: whoever is answered a value is the only one. ARGV[2…]: names,
-- once each. Answers the list to take a place on again: see renew; then the values.
local s, ended = open()
if not s then return ended end
local list = renew(s)
if not s.noted then return { list } end
local notes, messages = notifications(key)
use(NDB)
local left, values, taken = redis.call('HLEN', notes), { list }, {}
for i = 2, #ARGV do
  local value = redis.call('HGET', notes, ARGV[i])
  values[i] = value
  if value then
    taken[#taken + 1] = ARGV[i]
    s.bytes = s.bytes - #value - #ARGV[i]
  end
end
local reached, exists = pcall(redis.call, 'EXISTS', messages)
s.noted = left > #taken or not reached or exists == 1
for i = 1, #taken, 200 do -- unpack has a limit
  redis.call('HDEL', notes, unpack(taken, i, math.min(i + 199, #taken)))
end
use(DB)
local record = format(s)
if record ~= s.record then redis.call('HSET', key, 'pycket:id', record) end
return values
