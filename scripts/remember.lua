-- Gives a session an idle timeout of its own. ARGV[2]: milliseconds.
--@ begin
if not living then
  --@ ended
end
idle = tonumber(ARGV[2])
if CLUSTER and owned then
  --@ lasts
  if listed - now() < lasts then
    --@ unlisted
  end
end
redis.call('HSET', key, 'pycket:idle', ARGV[2])
--@ count
redis.call('HSET', key, 'pycket:id', record)
--@ keep
return OK
