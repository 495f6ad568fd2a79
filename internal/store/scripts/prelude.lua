-- Functions for every script. A script runs as one text: the files that store.go lists for it, one after the other. Words
-- in capitals are constants, whose values store.go puts in their place. A function costs Redis about 50 ns each time a
-- script runs, so the files hold few: see docs/performance.md.
--
-- KEYS[1] is the session's hash; ARGV[1] is the verifier of the request's id. docs/storage.md has the layout.

local key, id = KEYS[1], ARGV[1]

-- now returns the time in milliseconds since 1970, by Redis's clock: those of the application's servers may disagree. It
-- is the same throughout a script.
local time
local function now()
  time = time or redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- whole formats a number in digits: Lua's own format turns large ones into 1.7e+12.
local function whole(n) return string.format('%.0f', n) end

-- place puts a session on a user's list and makes the list last ms milliseconds, at least. The score is the time in
-- microseconds. It leaves a key of another type, which is not pycket's, alone. It returns the number of places.
local function place(list, handle, ms)
  local kind = redis.call('TYPE', list).ok
  if kind ~= 'zset' and kind ~= 'none' then return 0 end
  now()
  redis.call('ZADD', list, whole(time[1] * 1000000 + time[2]), handle)
  if redis.call('PTTL', list) < ms then redis.call('PEXPIRE', list, ms) end
  return redis.call('ZCARD', list)
end
