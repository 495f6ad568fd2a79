-- Looks at sessions that a user's list names, and may end them. Runs, last.
-- in: KEYS: the sessions; ARGV[1]: the user; ARGV[2]: '1' to end them, see confirm; member, finish
-- returns: five items each: the handle and, of one that was alive and the user's, when it was created and last seen
--   (milliseconds), and authenticated (microseconds), and its user agent; else four times 'L', if its layout is a later
--   one, or nothing. Then ARGV[1]
local out = {}
for i = 1, #KEYS do
  local created, fields = member(KEYS[i], ARGV[1])
  out[#out + 1] = string.sub(KEYS[i], #SESSION + 2, -2)
  out[#out + 1] = created or ''
  for j = 3, 5 do out[#out + 1] = fields and fields[j] or created == 'L' and 'L' or '' end
  if fields and ARGV[2] == '1' then finish(KEYS[i], '') end
end
out[#out + 1] = ARGV[1]
return out
