-- Declares functions that end the session under any key, or look at it.
-- in: remove
-- out: forget, unlist, finish, later, member

-- forget deletes notifications and messages. While a slot moves they may be out of reach; their TTL removes them.
local function forget(notes, messages)
  use('NDB')
  pcall(redis.call, 'DEL', notes)
  pcall(redis.call, 'DEL', messages)
  use('DB')
end

-- unlist removes a session from a user's list. In a cluster, where that is another step, readers of the list do so.
local function unlist(hash, k)
  if not CLUSTER then redis.pcall('ZREM', LIST .. '{' .. hash .. '}', string.sub(k, #SESSION + 2, -2)) end
end

-- finish ends the session under a key, with its notifications. What stays for LATE milliseconds is a mark without data,
-- so that a late write can tell "ended just now" from "expired long ago"; by is the token by which a request recognizes
-- its own mark.
--
-- Ending needs no memory: a full Redis refuses HSET as the first write of a script but not after HDEL, here of a field
-- that is not there. If even so there is no room for the mark, the session ends without it. The mark comes before the
-- fields go: while a slot moves to another server of a cluster, a key that is gone can't be made again here. The TTL comes
-- last: see keep.lua.
local function finish(k, by)
  local fields = {}
  for _, name in ipairs(redis.call('HKEYS', k)) do
    if name ~= 'pycket:ended' then fields[#fields + 1] = name end
  end
  local notes, messages = names(k)
  local hash = redis.call('HGET', k, 'pycket:list')
  use('NDB') -- fails if it can't be used
  use('DB')
  redis.call('HDEL', k, 'pycket:ends')
  redis.pcall('HSET', k, 'pycket:ended', now() .. by)
  remove(k, fields)
  pcall(redis.call, 'PEXPIRE', k, LATE) -- fails if the key is gone, and its slot moves
  forget(notes, messages)
  if hash then unlist(hash, k) end
end

-- later reports whether a record is of a later layout: see open.lua.
local function later(record) return (string.byte(record, 36) or 48) > 55 end

-- member returns what is known of a session that a user's list names: when it was created, in milliseconds, and fields;
-- 'L' if its layout is a later one; nil if it is not alive or not the user's.
local function member(k, user)
  local fields = redis.pcall('HMGET', k, 'pycket:id', 'pycket:user', 'pycket:seen', 'pycket:auth', 'pycket:agent')
  if fields.err or not fields[1] then return nil end
  if later(fields[1]) then return 'L' end
  if fields[2] ~= user then return nil end
  local created = string.sub(fields[1], 23, 35)
  if ABSOLUTE > 0 and now() >= (tonumber(created) or 0) + ABSOLUTE then return nil end
  return created, fields
end
