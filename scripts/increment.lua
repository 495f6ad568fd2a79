-- Adds to a whole number of a session and answers the sum.
-- ARGV[2]: '1' if the session may be made by this; ARGV[3]: name; ARGV[4]: what to add.
--@ begin
if not living then
  --@ born
end
local old = redis.call('HGET', key, ARGV[3])
local sum = redis.pcall('HINCRBY', key, ARGV[3], ARGV[4])
if type(sum) == 'table' then
  if string.find(sum.err, 'integer') or string.find(sum.err, 'overflow') then return NOTNUMBER end
  return sum
end
-- A number of Lua is a double and holds whole numbers up to 2^53 only; Redis has the exact one.
sum = redis.call('HGET', key, ARGV[3])
local more = #sum - (old and #old or -#ARGV[3])
if more > 0 and bytes + more > MAXBYTES then
  if old then
    redis.call('HSET', key, ARGV[3], old)
  else
    redis.call('HDEL', key, ARGV[3])
  end
  return TOOLARGE
end
bytes = bytes + more
--@ store
--@ keep
return sum
