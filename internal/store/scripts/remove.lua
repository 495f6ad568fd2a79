-- Declares remove, which deletes fields of a hash.
local function remove(hash, fields)
  for i = 1, #fields, 200 do -- unpack has a limit
    redis.call('HDEL', hash, unpack(fields, i, math.min(i + 199, #fields)))
  end
end
