-- Lists an account's living sessions, some at a time, in the order in which they signed in. KEYS[1]: the
-- account's list; ARGV[1]: the account; ARGV[2]: from which score on. Answers, for each, its handle, when it
-- was created, last seen and authenticated, and its user agent; at the end the last score, and 'M' if there
-- may be more or 'E' if that was all. ARGV[3…]: what to end instead, and answer the handles of: '-' and
-- the handles that stay.
--@ finish
--@ member
local list, user = KEYS[1], ARGV[1]
local spared
if ARGV[3] then
  spared = {}
  for i = 4, #ARGV do spared[ARGV[i]] = true end
end
local found = redis.call('ZRANGEBYSCORE', list, ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
local out = {}
for i = 1, #found, 2 do
  local handle = found[i]
  local fields = member(list, handle, user)
  if fields and not spared then
    out[#out + 1] = handle
    out[#out + 1] = string.sub(fields[1], 23, 35)
    for i = 3, 5 do out[#out + 1] = fields[i] or '' end
  elseif fields and not spared[handle] then
    finish(PREFIX .. 's:{' .. handle .. '}')
    out[#out + 1] = handle
  end
end
out[#out + 1] = found[#found] or ''
out[#out + 1] = #found == 2000 and 'M' or 'E'
return out
