-- Reads notifications without taking them out. Runs.
-- in: ARGV[2]: the name; without it, all names are answered
-- out: answer
if noted then
  local notes = names(key)
  use('NDB')
  local found = ARGV[2] and { redis.call('HGET', notes, ARGV[2]) } or redis.call('HKEYS', notes)
  answer = { '' }
  for i = 1, #found do answer[i + 1] = found[i] end
  answer[#found + 2] = id
  use('DB')
end
