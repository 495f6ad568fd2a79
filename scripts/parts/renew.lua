-- What only reads renews the idle timeout when a tenth of it has passed: it is then no write for Redis.
local left = redis.call('PTTL', key)
if left < idle * 0.9 and string.sub(ARGV[1], 23) ~= '!' then
  --@ lasts
  if left < 0 or lasts - left >= idle * 0.1 then
    --@ keep
  end
end
