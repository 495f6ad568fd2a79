-- A session begins, if ARGV[2] allows it: then the id is one that the client has just made.
if ARGV[2] ~= '1' then
  --@ ended
end
if redis.call('EXISTS', key) == 1 then return TAKEN end
created = now()
record = id .. string.format('%013.0f', created) .. '0'
