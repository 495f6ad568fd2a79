-- Ends a session. What stays for a while is a mark without data, so that a late write can tell
-- "ended just now" from "expired long ago". ALREADY: somebody else has destroyed it a moment ago.
if not living then
  local verdict = ended()
  if verdict == GONE and redis.call('HEXISTS', key, 'pycket:id') == 0 then return ALREADY end
  return verdict
end
forget(noted)
redis.call('HSET', key, 'pycket:ended', string.format('%.0f', now()))
redis.call('PEXPIRE', key, LATE)
return OK
