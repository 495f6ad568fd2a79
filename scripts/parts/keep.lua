-- The session, and with it its notifications, may stand unused for another idle timeout, but not beyond
-- the absolute one.
local ms = IDLE
if ABSOLUTE > 0 then
  ms = math.max(1, math.min(IDLE, (tonumber(string.sub(record, 23, 35)) or 0) + ABSOLUTE - now()))
end
redis.call('PEXPIRE', key, ms)
if noted then
  --@ notes
  select(NDB)
  redis.call('PEXPIRE', notes, ms)
  redis.call('PEXPIRE', messages, ms)
  select(DB)
end
