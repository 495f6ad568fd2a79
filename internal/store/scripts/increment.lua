-- Adds to a whole number of a session and answers the sum. Runs.
-- in: ARGV[3]: name; ARGV[4]: what to add
-- out: bytes, answer
-- returns: TOOLARGE, NOTNUMBER, Redis's error
local old = redis.call('HGET', key, ARGV[3])
local sum = redis.pcall('HINCRBY', key, ARGV[3], ARGV[4])
if type(sum) == 'table' then
  if string.find(sum.err, 'integer') or string.find(sum.err, 'overflow') then return NOTNUMBER end
  return sum
end
local text = redis.call('HGET', key, ARGV[3]) -- a number of Lua is a double, exact up to 2^53 only
local more = #text - (old and #old or -#ARGV[3])
if more > 0 and bytes + more > MAXBYTES then
  if old then redis.call('HSET', key, ARGV[3], old) else redis.call('HDEL', key, ARGV[3]) end
  return TOOLARGE
end
bytes, answer = bytes + more, { '', text, id }
