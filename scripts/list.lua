-- Reads the list of an account, some at a time. KEYS[1]: the list; ARGV[1]: from which score on; ARGV[2]: '!' if
-- Redis refuses writes, so that what is past has to stay. Answers handles, then the last score, and 'M' if there may
-- be more or 'E' if that was all. What it names may be dead, or another account's, by now: see members.lua.
local list = KEYS[1]
if ARGV[2] ~= '!' then
  local t = redis.call('TIME')
  redis.call('ZREMRANGEBYSCORE', list, '-inf', t[1] .. string.sub('00000' .. t[2], -6))
end
local found = redis.call('ZRANGEBYSCORE', list, ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
local out = {}
for i = 1, #found, 2 do out[#out + 1] = found[i] end
out[#out + 1] = found[#found] or ''
out[#out + 1] = #found == 2000 and 'M' or 'E'
return out
