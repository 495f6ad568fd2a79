-- Ends a session. What stays for LATE milliseconds is a mark without data, so that a late write can tell
-- "ended just now" from "expired long ago".
if not living then return ended() end
forget(noted)
redis.call('HSET', key, 'pycket:ended', string.format('%.0f', now()))
redis.call('PEXPIRE', key, LATE)
return OK
