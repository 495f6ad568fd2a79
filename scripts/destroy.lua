-- Ends a session, and all that hangs on it. What stays for LATE milliseconds is a mark without data, so
-- that a late write can tell "ended just now" from "expired long ago".
--@ begin
if not living then
  --@ ended
end
redis.call('DEL', key)
if noted then
  --@ notes
  select(NDB)
  redis.call('DEL', notes, messages)
  select(DB)
end
redis.call('HSET', key, 'pycket:ended', string.format('%.0f', now()))
redis.call('PEXPIRE', key, LATE)
return OK
