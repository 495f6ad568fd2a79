-- Takes all messages out of the queue, oldest first. Answers the list to take a place on again: see renew; then the
-- messages.
local s, ended = open()
if not s then return ended end
local list = renew(s)
if not s.noted then return { list } end
local notes, messages = notifications(key)
use(NDB)
local queue = redis.call('LRANGE', messages, 0, -1)
for i = 1, #queue do s.bytes = s.bytes - #queue[i] end
local reached, exists = pcall(redis.call, 'EXISTS', notes)
s.noted = not reached or exists == 1
redis.call('DEL', messages)
use(DB)
local record = format(s)
if record ~= s.record then redis.call('HSET', key, 'pycket:id', record) end
table.insert(queue, 1, list)
return queue
