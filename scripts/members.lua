-- Looks at sessions that the list of an account names. KEYS: their hashes; ARGV[1]: the account; ARGV[2]: '1' to
-- end them. Answers, for each that was alive and the account's: its handle, when it was created, last seen
-- (milliseconds) and authenticated (microseconds), and its user agent.
--@ finish
--@ member
local out = {}
for i = 1, #KEYS do
  local fields = member(KEYS[i], ARGV[1])
  if fields then
    out[#out + 1] = string.sub(KEYS[i], #PREFIX + 4, -2)
    out[#out + 1] = string.sub(fields[1], 23, 35)
    for j = 3, 5 do out[#out + 1] = fields[j] or '' end
    if ARGV[2] == '1' then finish(KEYS[i]) end
  end
end
return out
