-- Runs before every script: finds out whether the id that a request came with is alive.
--
-- KEYS[1]  the session's hash, <PREFIX>s:{<handle>}, in database DB
-- ARGV[1]  the verifier of the id the request came with
--
-- The notifications of a session lie in database NDB, under the same {handle} and so in the same
-- cluster slot: <PREFIX>n:{<handle>} (a hash) and <PREFIX>m:{<handle>} (a list). store.go puts the
-- constants in upper case before this file; docs/storage.md describes the bytes.

local key = KEYS[1]
local notes = PREFIX .. 'n:' .. string.sub(key, #PREFIX + 3)
local messages = PREFIX .. 'm:' .. string.sub(key, #PREFIX + 3)

-- Milliseconds since 1970 by Redis's own clock: the servers of an application may disagree on theirs.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- SELECT in a script ends with the script; a cluster has one database and knows no SELECT.
local function select(db)
  if NDB ~= DB then redis.call('SELECT', db) end
end

-- Forgets the session and everything that hangs on it.
local function forget(noted)
  redis.call('DEL', key)
  if noted then
    select(NDB)
    redis.call('DEL', notes, messages)
    select(DB)
  end
end

-- created: milliseconds; noted: notifications may be waiting; bytes: what names and values take.
local created, noted, bytes
local living = false
do
  local record = redis.call('HGET', key, 'pycket:id')
  if record and string.sub(record, 1, 22) == ARGV[1] then
    living = true
    created = tonumber(string.sub(record, 23, 35)) or 0
    noted = string.sub(record, 36, 36) == 'n'
    bytes = tonumber(string.sub(record, 37)) or 0
    if ABSOLUTE > 0 and now() >= created + ABSOLUTE then
      living = false
      forget(noted)
    end
  end
end

-- What to answer for an id that is not alive. If it was destroyed ('D') or rotated away ('R'), how many
-- milliseconds ago: the client knows whether its request was under way then. Otherwise EXPIRED.
local function ended()
  local at = tonumber(redis.call('HGET', key, 'pycket:ended') or nil)
  if not at then return EXPIRED end
  local how = redis.call('HEXISTS', key, 'pycket:id') == 1 and 'R' or 'D'
  return how .. string.format('%.0f', math.max(0, now() - at))
end

local function born()
  living, created, noted, bytes = true, now(), false, 0
end

local function record()
  return ARGV[1] .. string.format('%013.0f', created) .. (noted and 'n' or '-') .. string.format('%.0f', bytes)
end

-- How long the session may still stand without being used, in milliseconds.
local function allowed()
  if ABSOLUTE > 0 then return math.max(1, math.min(IDLE, created + ABSOLUTE - now())) end
  return IDLE
end

-- Gives the session, and with it its notifications, this many milliseconds from now.
local function keep(ms)
  redis.call('PEXPIRE', key, ms)
  if noted then
    select(NDB)
    redis.call('PEXPIRE', notes, ms)
    redis.call('PEXPIRE', messages, ms)
    select(DB)
  end
end

-- Reads renew the idle timeout only when a tenth of it has passed: a read is then not a write.
local function renew()
  local left = redis.call('PTTL', key)
  if left < IDLE * 0.9 then
    local ms = allowed()
    if left < 0 or ms - left >= IDLE * 0.1 then keep(ms) end
  end
end

-- One string for many: the lengths (-1 for what is not there), a line feed, the strings one after the
-- other. A client then allocates once for a session, not once for each of its fields.
local function pack(kind, list)
  local lengths = {}
  for i = 1, #list do
    if list[i] then
      lengths[i] = #list[i]
    else
      lengths[i], list[i] = -1, ''
    end
  end
  return kind .. table.concat(lengths, ' ') .. '\n' .. table.concat(list)
end

-- How many bytes the session grows by if these names and values are set in a hash; the list holds
-- name, value, name, value from index first on.
local function growth(hash, list, first)
  local sum = 0
  for i = first, #list, 2 do
    local old = redis.call('HSTRLEN', hash, list[i])
    if old == 0 and redis.call('HEXISTS', hash, list[i]) == 0 then old = -#list[i] end
    sum = sum + #list[i + 1] - old
  end
  return sum
end

-- HSET of name, value, name, value from index first on; unpack has a limit, so a hundred names at once.
local function put(hash, list, first)
  for i = first, #list, 200 do
    redis.call('HSET', hash, unpack(list, i, math.min(i + 199, #list)))
  end
end

-- HDEL of the names from index first on; returns the bytes that became free.
local function drop(hash, list, first)
  local sum = 0
  for i = first, #list do
    local old = redis.call('HSTRLEN', hash, list[i])
    if redis.call('HDEL', hash, list[i]) == 1 then sum = sum + old + #list[i] end
  end
  return sum
end
