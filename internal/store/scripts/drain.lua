-- Takes all messages out of the queue and answers them, oldest first. Runs.
-- out: noted, bytes, answer
if noted then
  local notes, messages = names(key)
  use('NDB')
  local queue = redis.call('LRANGE', messages, '0', '-1')
  answer = { '' }
  for i = 1, #queue do
    answer[i + 1] = queue[i]
    bytes = bytes - #queue[i]
  end
  answer[#queue + 2] = id
  local reached, exists = pcall(redis.call, 'EXISTS', notes)
  noted = not reached or exists == 1
  redis.call('DEL', messages)
  use('DB')
end
