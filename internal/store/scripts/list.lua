-- Reads a user's list, a thousand handles at a time. Runs, alone.
-- in: KEYS[1]: the list; ARGV[1]: the score to begin with; ARGV[2]: '1' if they are to be ended
-- returns: handles, then the last score, 'MM' if there may be more or 'EE' if not, and ARGV[1]
if ARGV[2] == '1' then
  -- A replica, which may be behind, refuses to write. A master that was replaced, and does not know, finds no replica to
  -- confirm it; a full one writes nothing.
  if WAITS then redis.pcall('ZADD', KEYS[1], 0, '') end
  redis.call('ZREM', KEYS[1], '')
end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
local out = {}
for i = 1, #found, 2 do out[#out + 1] = found[i] end
out[#out + 1] = found[#found] or ''
out[#out + 1] = #found == 2000 and 'MM' or 'EE'
out[#out + 1] = ARGV[1]
return out
