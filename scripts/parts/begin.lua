-- How every script on a session begins: is the id that the request came with alive?
--
-- KEYS[1]  the session's hash, <PREFIX>s:{<handle>}, in database DB
-- ARGV[1]  the verifier of the id; a '.' after it says that, in a cluster, the account's list was seen to, and a
--          '!' that Redis refuses writes, so that what only reads should not try to renew anything
--
-- The notifications of a session lie in database NDB, under the same {handle} and so in the same
-- cluster slot: <PREFIX>n:{<handle>} (a hash) and <PREFIX>m:{<handle>} (a list). docs/storage.md
-- describes the bytes. The constants in upper case stand before this.

local key, id = KEYS[1], string.sub(ARGV[1], 1, 22)

-- Milliseconds since 1970 by Redis's own clock: the servers of an application may disagree on theirs.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local record = redis.call('HGET', key, 'pycket:id')
local living = record and string.sub(record, 1, 22) == id
local created = 0
if living and ABSOLUTE > 0 then
  created = tonumber(string.sub(record, 23, 35)) or 0
  if not (now() < created + ABSOLUTE) then
    -- Its notifications can't be reached any more, and have a TTL.
    if string.sub(ARGV[1], 23) ~= '!' then redis.call('DEL', key) end
    living = false
  end
end

-- noted: notifications may be waiting; owned: it belongs to an account; idle: its idle timeout;
-- bytes: what names and values take; listed: in a cluster, until when the account's list names it.
local noted, owned, idle, bytes, listed = false, false, IDLE, 0, 0
if living then
  local flags = tonumber(string.sub(record, 36, 36)) or 0
  noted, owned = flags % 2 == 1, flags % 4 >= 2
  if flags >= 4 then idle = tonumber(redis.call('HGET', key, 'pycket:idle') or nil) or IDLE end
  bytes = tonumber(string.sub(record, 37)) or 0
  -- Redis may hold anything; 400 days are the most that Remember sets.
  idle = idle >= 1000 and idle <= 34560000000 and math.floor(idle) or IDLE
  if not (bytes >= 0 and bytes < 1e15) then bytes = 0 end
end
if noted then
  --@ reach
end
if CLUSTER and living and owned then
  --@ apart
end
