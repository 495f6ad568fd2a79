-- Lists an account's living sessions, some at a time, in the order in which they signed in. KEYS[1]: the
-- account's list; ARGV[1]: the account; ARGV[2]: how many were listed before. Answers, for each, its
-- handle, when it was created, last seen and authenticated, and its user agent; at the end 'M' if there
-- may be more, and 'E' if that was all. ARGV[3…]: what to end instead of listing: '-' and the handles
-- that stay.
--@ finish
--@ member
local list, user = KEYS[1], ARGV[1]
local spared
if ARGV[3] then
  spared = {}
  for i = 4, #ARGV do spared[ARGV[i]] = true end
end
local handles = redis.call('ZRANGE', list, ARGV[2], ARGV[2] + 999)
local out = {}
for _, handle in ipairs(handles) do
  local fields = member(list, handle, user)
  if fields and not spared then
    out[#out + 1] = handle
    out[#out + 1] = string.sub(fields[1], 23, 35)
    for i = 3, 5 do out[#out + 1] = fields[i] or '' end
  elseif fields and not spared[handle] then
    finish(PREFIX .. 's:{' .. handle .. '}')
    out[#out + 1] = handle
  elseif fields then
    out[#out + 1] = ''
  end
end
out[#out + 1] = #handles == 1000 and 'M' or 'E'
return out
