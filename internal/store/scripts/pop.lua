-- Takes a value of a session out and answers it: it goes to one caller only. Runs.
-- in: ARGV[2]: name
-- out: bytes, answer
local value = redis.call('HGET', key, ARGV[2])
if value then
  redis.call('HDEL', key, ARGV[2])
  answer, bytes = { '', value, id }, bytes - #ARGV[2] - #value
end
