-- Gives a session an idle timeout of its own. ARGV[2]: '1' if the session may be made by this;
-- ARGV[3]: milliseconds.
--@ begin
if not living then
  --@ born
end
idle = tonumber(ARGV[3])
if CLUSTER and owned then
  --@ lasts
  if listed - now() < lasts then
    --@ unlisted
  end
end
redis.call('HSET', key, 'pycket:idle', ARGV[3])
--@ count
redis.call('HSET', key, 'pycket:id', record)
--@ keep
return OK
