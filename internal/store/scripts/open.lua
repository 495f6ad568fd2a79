-- Finds the session and checks that the id is alive. Runs.
-- in: fresh, the record if the session begins; other, a second verifier that opens it
-- out, for the script to change: verifier; noted, notifications may be waiting; owned, it belongs to a user; own, its
--   idle timeout is its own; idle, that timeout, in milliseconds; bytes, what names and values take; answer, what the
--   script answers; into, first, last, the hash to set values in and which of ARGV are their names and values; listed,
--   the session takes its place on the user's list in any case
-- out, to stay as it is: record, flags, size, as they are stored; left, the milliseconds until the absolute timeout
-- returns: LATER; EXPIRED or, if that is known, how many milliseconds ago the id was destroyed (DD) or rotated away (RR),
--   and the token of the request that destroyed it
--
-- The record, the field pycket:id, is the verifier of the one id that is alive (1–22), when the session was created
-- (23–35), flags (36), and the bytes that names and values take. Redis may hold anything. write.lua writes it. Flags above
-- 7 are a later layout's, in which all else may differ.
local record = fresh or redis.call('HGET', key, 'pycket:id')
local flags = (record and string.byte(record, 36) or 48) - 48
if flags > 7 then return LATER end
local verifier, left = record and string.sub(record, 1, 22), 1e15
if verifier == id and ABSOLUTE > 0 then -- nothing is deleted that may be another's
  left = (tonumber(string.sub(record, 23, 35)) or 0) + ABSOLUTE - now()
  if left <= 0 then
    pcall(redis.call, 'DEL', key) -- its notifications can't be reached any more, and have a TTL
    return EXPIRED
  end
end
if verifier ~= id and verifier ~= other then
  local at, token = string.match(redis.call('HGET', key, 'pycket:ended') or '', '^(%d+) ?(%w*)$')
  at = tonumber(at)
  if not at or at <= 0 or at >= 1e15 then return EXPIRED end
  local ago = math.abs(now() - at) -- the clock may have been set back
  return redis.status_reply((record and 'RR' or 'DD') .. ago .. ' ' .. token)
end
local size = tonumber(string.sub(record, 37)) or 0
if not (size >= 0 and size < 1e14) then size = 0 end
local noted, owned, own, idle, bytes = flags % 2 == 1, flags % 4 >= 2, flags >= 4, IDLE, size
if own then
  local ms = tonumber(redis.call('HGET', key, 'pycket:idle') or nil)
  own = ms and ms >= 1000 and ms <= LONGEST
  if own then idle = math.floor(ms) end
end
local answer, into, first, last, listed = OK, key, 3, 2, false
