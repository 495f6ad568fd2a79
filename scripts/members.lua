-- Looks at sessions that the list of an account names. KEYS: their hashes; ARGV[1]: the account; ARGV[2]: '1' to
-- end them; ARGV[3]: the SHA-256 of the account. Answers, for each that was alive and the account's: its handle, when it was created, last seen
-- (milliseconds) and authenticated (microseconds), and its user agent. In a cluster it also answers handles of
-- sessions that are not there, with 'E' for one that was ended and 'M' for one that is missing in the place of
-- the first time.
--@ unlist
--@ finish
--@ member
local out = {}
for i = 1, #KEYS do
  local fields, handle = member(KEYS[i], ARGV[1], ARGV[3]), string.sub(KEYS[i], #PREFIX + 4, -2)
  if fields then
    local row = { handle, string.sub(fields[1], 23, 35), fields[3] or '', fields[4] or '', fields[5] or '' }
    for j = 1, 5 do out[#out + 1] = row[j] end
    if ARGV[2] == '1' then finish(KEYS[i]) end
  elseif CLUSTER then
    local left = redis.pcall('HMGET', KEYS[i], 'pycket:id', 'pycket:ended')
    if not left.err and not left[1] then
      local row = { handle, left[2] and 'E' or 'M', '', '', '' }
      for j = 1, 5 do out[#out + 1] = row[j] end
    end
  end
end
return out
