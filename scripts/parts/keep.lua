-- The session, and with it its notifications, may stand unused for another idle timeout, but not beyond
-- the absolute one. The account's list lives as long as the last of its sessions, and has them all.
local ms = idle
if ABSOLUTE > 0 then
  ms = math.max(1, math.min(idle, created + ABSOLUTE - now()))
end
redis.call('PEXPIRE', key, ms)
if noted then
  --@ notes
  select(NDB)
  redis.call('PEXPIRE', notes, ms)
  redis.call('PEXPIRE', messages, ms)
  select(DB)
end
if owned then
  local list = PREFIX .. 'u:{' .. redis.sha1hex(redis.call('HGET', key, 'pycket:user') or '') .. '}'
  local seen = string.format('%.0f', now())
  redis.call('HSET', key, 'pycket:seen', seen)
  local added = redis.pcall('ZADD', list, 'NX', seen .. '000', string.sub(key, #PREFIX + 4, -2))
  if type(added) == 'number' and redis.call('PTTL', list) < ms then redis.call('PEXPIRE', list, ms) end
end
