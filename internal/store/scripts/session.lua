-- Functions for scripts on one session.

-- notifications returns the keys of a session's notifications, a hash, and of its messages, a list. The handle in braces
-- is the hash tag that keeps a session's keys in one slot of a cluster. A user who gets a session from another gets new
-- keys there: while a slot moves, those of the other may not be deleted.
--
-- A script that uses them first reads all it needs, one key a command: while a slot moves, a command on a key that is not
-- on this server fails, and nothing must have been changed by then. What may fail is done by Lua's pcall, since
-- redis.pcall forgets the database in miniredis.
local function notifications(k)
  local tag = string.sub(k, #PREFIX + 3)
  if CLUSTER then tag = tag .. (redis.call('HGET', k, 'pycket:notes') or '') end
  return PREFIX .. 'n:' .. tag, PREFIX .. 'm:' .. tag
end

-- reach fails if the notifications' database can't be used. Scripts call it before they change anything.
local function reach()
  if NDB ~= DB then
    redis.call('SELECT', NDB)
    redis.call('SELECT', DB)
  end
end

-- open returns the session that the id opens, or another one. If neither opens any, it returns nil and what to answer: how
-- many milliseconds ago the id was destroyed (D) or rotated away (R), where that is known, and the token of the request
-- that destroyed it. If begins is '1', the id is one that the library has just made, and its session begins.
--
-- The record, the field pycket:id, is the verifier of the one id that is alive (1–22), when the session was created
-- (23–35), flags (36), and the bytes that names and values take. Redis may hold anything.
local function open(begins, other)
  local record = redis.call('HGET', key, 'pycket:id')
  if begins == '1' then
    if record or redis.call('EXISTS', key) == 1 then return nil, TAKEN end
    return { new = true, verifier = id, created = whole(now()), noted = false, owned = false, own = false, idle = IDLE, bytes = 0 }
  end
  if record then
    local verifier, created = string.sub(record, 1, 22), string.sub(record, 23, 35)
    if ABSOLUTE > 0 and now() >= (tonumber(created) or 0) + ABSOLUTE then
      pcall(redis.call, 'DEL', key) -- its notifications can't be reached any more, and have a TTL
      return nil, EXPIRED
    end
    if verifier == id or verifier == other then
      local flags, bytes, idle, own = tonumber(string.sub(record, 36, 36)) or 0, tonumber(string.sub(record, 37)) or 0, IDLE
      if flags >= 4 then -- it has an idle timeout of its own
        own = tonumber(redis.call('HGET', key, 'pycket:idle') or nil)
        if own and own >= 1000 and own <= LONGEST then idle = math.floor(own) else own = nil end
      end
      if not (bytes >= 0 and bytes < 1e15) then bytes = 0 end
      if flags % 2 == 1 then reach() end
      -- noted: notifications may be waiting; owned: it belongs to a user; own: its idle timeout is its own
      return { record = record, verifier = verifier, created = created, noted = flags % 2 == 1, owned = flags % 4 >= 2, own = own ~= nil, idle = idle, bytes = bytes }
    end
  end
  local at, token = string.match(redis.call('HGET', key, 'pycket:ended') or '', '^(%d+) ?(%w*)$')
  at = tonumber(at)
  if not at or at <= 0 or at >= 1e15 then return nil, EXPIRED end
  return nil, redis.status_reply((record and 'R' or 'D') .. whole(math.max(0, now() - at)) .. ' ' .. token)
end

-- format returns the record of a session.
local function format(s)
  local flags = (s.noted and 1 or 0) + (s.owned and 2 or 0) + (s.own and 4 or 0)
  return s.verifier .. s.created .. flags .. whole(s.bytes)
end

-- grow counts bytes more, or reports that the session would become too large.
local function grow(s, more)
  if more > 0 and s.bytes + more > MAXBYTES then return false end
  s.bytes = s.bytes + more
  return true
end

-- keep makes a session last for another idle timeout, but not longer than the absolute timeout, and its notifications too.
-- A session of a user notes that it was seen, and takes its place on the user's list again, once a tenth of the idle
-- timeout has passed, if listed is true, or if the list would end before it. In a cluster the list is on another server:
-- keep returns its hash, and the library does that. Otherwise it returns nil.
local function keep(s, listed)
  local ms, rest = s.idle, math.ceil(s.idle / 10) + 1000 -- for how long it lasts, and for how long beyond that the list must
  if ABSOLUTE > 0 then
    local left = math.max(1, (tonumber(s.created) or 0) + ABSOLUTE - now())
    ms, rest = math.min(ms, left), math.min(rest, left - math.min(ms, left))
  end
  redis.call('PEXPIRE', key, ms == IDLE and 'IDLE' or ms) -- as text, if it can be: numbers take Redis long to print
  if s.noted then
    local notes, messages = notifications(key)
    if NDB ~= DB then redis.call('SELECT', NDB) end
    pcall(redis.call, 'PEXPIRE', notes, ms) -- while a slot moves they may be out of reach
    pcall(redis.call, 'PEXPIRE', messages, ms)
    if NDB ~= DB then redis.call('SELECT', DB) end
  end
  if not s.owned then return nil end
  local seen = redis.call('HMGET', key, 'pycket:seen', 'pycket:list')
  local list = not CLUSTER and seen[2] and PREFIX .. 'u:{' .. seen[2] .. '}'
  if not listed and math.abs(now() - (tonumber(seen[1] or nil) or 0)) < s.idle / 10
    and not (list and redis.call('PTTL', list) < ms - 1000) then return nil end
  redis.call('HSET', key, 'pycket:seen', whole(now()))
  if CLUSTER then return seen[2] end
  if list then s.places = place(list, string.sub(key, #PREFIX + 4, -2), ms + rest) end
  return nil
end

-- done keeps a session, and returns what the script answers: x or, if the library is to take the session's place on its
-- user's list, the list's hash and, unless it is OK, x.
local function done(s, x, listed)
  local hash = keep(s, listed)
  if not hash then return x end
  return { hash, x ~= OK and x or nil }
end
