-- Shows all that is stored of a session, by its handle, without its id. Runs, last.
-- in: ARGV[2]: '1' for values too; names, use, now, later
-- returns: LATER; EXPIRED or, if it was ended, how many milliseconds ago (DD). Else a list: in how many milliseconds the session
--   expires; then of each field (s), notification (n) and message (m) its kind, its name, its size and, if asked for or
--   reserved, its value. Then ARGV[1]
local fields, record = redis.call('HGETALL', key), redis.call('HGET', key, 'pycket:id')
if not record then
  local at = string.match(redis.call('HGET', key, 'pycket:ended') or '', '^%d+')
  at = tonumber(at)
  if not at or at <= 0 or at >= 1e15 then return EXPIRED end
  return redis.status_reply('DD' .. math.abs(now() - at)) -- the clock may have been set back
end
if later(record) then return LATER end
local out, notes, messages = { redis.call('PTTL', key) .. '' }, names(key)
local function show(kind, name, value)
  local shown = ARGV[2] == '1' or kind == 's' and string.sub(name, 1, 7) == 'pycket:'
  for _, item in ipairs({ kind, name, #value .. '', shown and value or '' }) do out[#out + 1] = item end
end
for i = 1, #fields, 2 do show('s', fields[i], fields[i + 1]) end
use('NDB')
fields, messages = redis.call('HGETALL', notes), redis.call('LRANGE', messages, 0, -1)
use('DB')
for i = 1, #fields, 2 do show('n', fields[i], fields[i + 1]) end
for i = 1, #messages do show('m', '', messages[i]) end
out[#out + 1] = id
return out
