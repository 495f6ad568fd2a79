-- Reads the list of an account, some at a time. KEYS[1]: the list; ARGV[1]: from which score on. Answers handles,
-- then the last score, and 'M' if there may be more or 'E' if that was all. What it names may be dead, or
-- another account's, by now: see members.lua.
local list = KEYS[1]
--@ tidy
local found = redis.call('ZRANGEBYSCORE', list, ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
local out = {}
for i = 1, #found, 2 do out[#out + 1] = found[i] end
out[#out + 1] = found[#found] or ''
out[#out + 1] = #found == 2000 and 'M' or 'E'
return out
