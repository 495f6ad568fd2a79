-- Looks at some keys of sessions, as SCAN goes through them. Runs, alone.
-- in: ARGV[1]: SCAN's cursor, '0' to begin; ARGV[2]: the pattern of the keys; ARGV[3]: at about how many keys to look
-- returns: the next cursor, '0' at the end; how many keys there are, of whatever kind; each session's key and record;
--   and ARGV[1]. A record is '' while the session is on another server: its slot is moving.
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local out = { found[1], redis.call('DBSIZE') .. '' }
for _, k in ipairs(found[2]) do
  local done, record = pcall(redis.call, 'HGET', k, 'pycket:id')
  if not done then
    local said = type(record) == 'table' and record.err or tostring(record)
    local moving = string.find(said, 'non local key')
    if not moving and not string.find(said, 'WRONGTYPE') then return redis.error_reply(said) end
    record = moving and ''
  end
  if record then
    out[#out + 1] = k
    out[#out + 1] = record
  end
end
out[#out + 1] = ARGV[1]
return out
