-- Puts a session on a user's list. The score is the time in microseconds. A key of another type, which is not pycket's,
-- is left alone. Runs.
-- in: list, its key, nil or false to do nothing; handle; lasting, for how many milliseconds the list must last, at
--   least
-- out: places, how many it has
local places = 0
local kind = list and redis.call('TYPE', list).ok
if kind == 'zset' or kind == 'none' then
  redis.call('ZADD', list, now('micros'), handle)
  if redis.call('PTTL', list) < lasting then redis.call('PEXPIRE', list, lasting) end
  places = redis.call('ZCARD', list)
end
