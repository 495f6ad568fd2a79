-- Writes, and takes it back, if replicas are waited for: so one must confirm what the script finds. A master that was
-- replaced, and does not know, may lack a session that is alive. Runs, in scripts that end sessions.
-- in: KEYS: the sessions; ARGV[2]: '0' if they are only looked at
if WAITS and ARGV[2] ~= '0' then
  for i = 1, #KEYS do
    pcall(redis.call, 'HSET', KEYS[i], 'pycket:ends', '') -- a full Redis refuses; the session ends all the same
    pcall(redis.call, 'HDEL', KEYS[i], 'pycket:ends')
  end
end
