-- Reads notifications and leaves them. ARGV[2]: the name; without it, all names are answered.
-- Answers the list to take a place on again: see renew; then the value, or the names.
local s, ended = open()
if not s then return ended end
local list = renew(s)
if not s.noted then return { list } end
local notes = notifications(key)
use(NDB)
if ARGV[2] then return { list, redis.call('HGET', notes, ARGV[2]) } end
local names = redis.call('HKEYS', notes)
table.insert(names, 1, list) -- unpack has a limit
return names
