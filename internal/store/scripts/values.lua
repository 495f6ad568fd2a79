-- Functions for scripts that write many fields.

-- weigh returns how many more bytes a hash takes with the names and values in ARGV, from first on. empty: it is known to
-- hold nothing.
local function weigh(hash, first, empty)
  local more = 0
  for i = first, #ARGV, 2 do
    local old = empty and 0 or redis.call('HSTRLEN', hash, ARGV[i])
    if old == 0 and (empty or redis.call('HEXISTS', hash, ARGV[i]) == 0) then old = -#ARGV[i] end
    more = more + #ARGV[i + 1] - old
  end
  return more
end

-- put sets the fields that ARGV has from first on: name, value, name, value …
local function put(hash, first)
  for i = first, #ARGV, 200 do -- unpack has a limit
    redis.call('HSET', hash, unpack(ARGV, i, math.min(i + 199, #ARGV)))
  end
end
