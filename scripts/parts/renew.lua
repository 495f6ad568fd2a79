-- What only reads renews the idle timeout when a tenth of it has passed: it is then no write for Redis.
local left = redis.call('PTTL', key)
if left < idle * 0.9 then
  local most = idle
  if ABSOLUTE > 0 then most = created + ABSOLUTE - now() end
  if left < 0 or math.min(most, idle) - left >= idle * 0.1 then
    --@ keep
  end
end
