-- Tries every command that the other scripts use, and reads do, on every kind of key. Runs, last.
-- in: KEYS[1]: a key like a session's that is no session's; ARGV[1]: '1' for what makes no key, then '2' for what does
-- returns: OK, or an error that names the command
--
-- There are two runs, in this order: keys must not be made before it is known that they can be given an end. And Redis
-- looks whether it is full before the first write of a script only, so that write must be one that takes memory.
local tag = string.sub(key, #SESSION + 1)
local notes, messages, list = NOTES .. tag, MESSAGES .. tag, LIST .. tag
local steps
if ARGV[1] == '1' then
  -- Redis 6.2 brought GETEX. Without arguments it does nothing, and it shows whether it is known.
  local _, said = pcall(redis.call, 'GETEX')
  if string.find(type(said) == 'table' and said.err or tostring(said), 'nknown') then
    return redis.error_reply('ERR this Redis is older than 6.2')
  end
  steps = {
    {'TIME'}, {'TYPE', key}, {'EXISTS', key}, {'HGET', key, 'a'}, {'HMGET', key, 'a', 'b'}, {'HGETALL', key}, {'HKEYS', key},
    {'HLEN', key}, {'HEXISTS', key, 'a'}, {'HSTRLEN', key, 'a'}, {'PTTL', key},
    {'HDEL', key, 'a'}, {'PEXPIRE', key, 1000}, {'DEL', key},
    {'ZCARD', list}, {'ZSCORE', list, 'a'}, {'ZRANGE', list, 0, -1}, {'ZRANGEBYSCORE', list, '-inf', '+inf'},
    {'ZREM', list, 'a'}, {'PEXPIRE', list, 1000}, {'DEL', list},
    {'SELECT', NDB},
    {'HGET', notes, 'a'}, {'PEXPIRE', notes, 1000}, {'DEL', notes},
    {'LRANGE', messages, 0, -1}, {'PEXPIRE', messages, 1000}, {'DEL', messages},
  }
else
  steps = {
    {'HSET', key, 'a', 1}, {'PEXPIRE', key, 1000}, {'HSETNX', key, 'b', 1}, {'HINCRBY', key, 'a', 1},
    {'ZADD', list, 1, 'a'}, {'PEXPIRE', list, 1000},
    {'SELECT', NDB},
    {'HSET', notes, 'a', 1}, {'PEXPIRE', notes, 1000},
    {'RPUSH', messages, 'a'}, {'PEXPIRE', messages, 1000},
  }
end
local failure
for i = 1, #steps do
  local step = steps[i]
  if step[1] ~= 'SELECT' or NDB ~= DB then
    local done, said = pcall(redis.call, unpack(step))
    if not done then
      failure = (type(said) == 'table' and said.err or tostring(said)) .. ': ' .. step[1]
      break
    end
  end
end
if ARGV[1] ~= '1' then
  use('NDB')
  pcall(redis.call, 'DEL', messages)
  pcall(redis.call, 'DEL', notes)
  use('DB')
  pcall(redis.call, 'DEL', list)
  pcall(redis.call, 'DEL', key)
end
if failure then return redis.error_reply(failure) end
return OK
