-- In a cluster the account's list lies in another slot. A session never stands longer than that is sure to name
-- it; when it could, somebody is asked to see to the list (store.run), and for a while nobody else. So it is if
-- the idle timeout has become shorter: a list that was lost would else come back late.
listed = tonumber(redis.call('HGET', key, 'pycket:listed') or nil) or 0
if #ARGV[1] == 22 then
  --@ lasts
  local at = now()
  if (listed - at < lasts or listed - at > idle * 1.1 + 1000) and (tonumber(redis.call('HGET', key, 'pycket:asked') or nil) or 0) <= at then
    local asked = redis.pcall('HSET', key, 'pycket:asked', string.format('%.0f', at + idle / 20))
    if type(asked) == 'number' then -- where Redis refuses it, the session goes on as it is
      --@ unlisted
    end
  end
end
