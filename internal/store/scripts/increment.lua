-- Adds to a whole number of a session and answers the sum.
-- ARGV[2]: '1' if it begins the session; ARGV[3]: name; ARGV[4]: what to add.
local s, ended = open(ARGV[2])
if not s then return ended end
local old = redis.call('HGET', key, ARGV[3])
local sum = redis.pcall('HINCRBY', key, ARGV[3], ARGV[4])
if type(sum) == 'table' then
  if string.find(sum.err, 'integer') or string.find(sum.err, 'overflow') then return NOTNUMBER end
  return sum
end
-- A number of Lua is a double, exact up to 2^53 only: Redis has the exact one.
sum = redis.call('HGET', key, ARGV[3])
if not grow(s, #sum - (old and #old or -#ARGV[3])) then
  if old then redis.call('HSET', key, ARGV[3], old) else redis.call('HDEL', key, ARGV[3]) end
  return TOOLARGE
end
local record = format(s)
if record ~= s.record then redis.call('HSET', key, 'pycket:id', record) end
return done(s, sum)
