-- What only a cluster needs: a session's account and its notifications may be out of reach for a script.
--
-- While the session's slot moves to another server, its keys may be on both. Then this fails, before anything
-- was changed. A command on two keys would fail even where it need not, so no script has one.
if noted then
  redis.call('EXISTS', PREFIX .. 'n:' .. string.sub(key, #PREFIX + 3))
  redis.call('EXISTS', PREFIX .. 'm:' .. string.sub(key, #PREFIX + 3))
end
-- The account's list lies in another slot. A session never stands longer than that is sure to name it; when it
-- could, somebody is asked to see to the list (store.run), and for a while nobody else.
if owned then
  listed = tonumber(redis.call('HGET', key, 'pycket:listed') or nil) or 0
  local at = now()
  local want = idle
  if ABSOLUTE > 0 then want = math.min(idle, created + ABSOLUTE - at) end
  if listed - at < want and (tonumber(redis.call('HGET', key, 'pycket:asked') or nil) or 0) <= at then
    redis.call('HSET', key, 'pycket:asked', string.format('%.0f', at + math.max(PATIENCE, idle / 100)))
    --@ unlisted
  end
end
