-- Declares what nearly every script uses.
-- in: KEYS[1], ARGV[1]
-- out: key, the session's hash; id, the verifier of the request's id; fresh and other, see open.lua; now, names, use
--
-- A script runs as one text: the files that store.go lists for it, one after the other. Some declare functions. The
-- others are blocks that run and leave locals to the next. Each begins with what it needs (in), what it leaves or
-- changes (out), and what the script may return there (returns). store.go replaces the words in capitals, which are
-- constants. docs/storage.md has the layout. A list that a script answers ends with ARGV[1]: see NewScript in
-- internal/redisconn.
--
-- What requests run most are blocks and locals, since tables, string.format and numbers made into text cost Redis as
-- much as commands do: see docs/performance.md. That is also why constant numbers are passed to commands as text.
local key, id = KEYS[1], ARGV[1]
local fresh, other

-- now returns the time since 1970 in milliseconds, or in microseconds, by Redis's clock: those of the application's
-- servers may disagree. It is the same throughout a script.
local time
local function now(micros)
  time = time or redis.call('TIME')
  if micros then return time[1] * 1000000 + time[2] end
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- names returns the keys of a session's notifications, a hash, and of its messages, a list. The handle in braces is the
-- hash tag that keeps a session's keys in one slot of a cluster. When a session passes from one user to another there,
-- it gets new keys, since the old ones may be out of reach while a slot moves.
--
-- A script that uses them first reads all it needs, one key a command: while a slot moves, a command on a key that is
-- not on this server fails, and nothing must have been changed by then. What may fail is done by Lua's pcall, since
-- redis.pcall forgets the database in miniredis.
local function names(k)
  local tag = string.sub(k, #SESSION + 1)
  if CLUSTER then tag = tag .. (redis.call('HGET', k, 'pycket:notes') or '') end
  return NOTES .. tag, MESSAGES .. tag
end

-- use selects a database. A cluster has only one and does not know SELECT.
local function use(db)
  if NDB ~= DB then redis.call('SELECT', db) end
end
