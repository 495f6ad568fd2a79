-- Sets values. target: the hash they go into; ARGV[3…]: name, value, name, value … unpack has a limit, so
-- a hundred at once.
for i = 3, #ARGV, 200 do
  redis.call('HSET', target, unpack(ARGV, i, math.min(i + 199, #ARGV)))
end
