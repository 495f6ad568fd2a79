-- Takes notifications out and answers them: each goes to one caller only. Runs.
-- in: ARGV[2…]: names, once each; remove
-- out: noted, bytes, answer
if noted then
  local notes, messages = names(key)
  use('NDB')
  local kept, taken = redis.call('HLEN', notes), {}
  answer = { '' }
  for i = 2, #ARGV do
    answer[i] = redis.call('HGET', notes, ARGV[i])
    if answer[i] then
      taken[#taken + 1] = ARGV[i]
      bytes = bytes - #answer[i] - #ARGV[i]
    end
  end
  answer[#ARGV + 1] = id
  local reached, exists = pcall(redis.call, 'EXISTS', messages)
  noted = kept > #taken or not reached or exists == 1
  remove(notes, taken)
  use('DB')
end
