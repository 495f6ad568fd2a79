-- The session, and with it its notifications, may stand unused for another idle timeout, but not beyond
-- the absolute one, nor, in a cluster, longer than the account's list names it.
--@ lasts
local ms = math.max(1, lasts)
if CLUSTER and owned and listed - now() < ms then
  ms = math.max(listed - now(), math.min(ms, redis.call('PTTL', key)), 1)
end
redis.call('PEXPIRE', key, ms)
if noted then
  --@ notes
  select(NDB)
  pcall(redis.call, 'PEXPIRE', notes, ms) -- it may be out of reach: see parts/notes.lua
  pcall(redis.call, 'PEXPIRE', messages, ms)
  select(DB)
end
if owned then
  redis.call('HSET', key, 'pycket:seen', string.format('%.0f', now()))
  local on = not CLUSTER and redis.call('HGET', key, 'pycket:list')
  if on then
    local list, handle = PREFIX .. 'u:{' .. on .. '}', string.sub(key, #PREFIX + 4, -2)
    --@ enlist
  end
end
