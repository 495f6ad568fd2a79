-- For scripts on notifications.

-- use selects a database. A cluster has only one and does not know SELECT.
local function use(db)
  if NDB ~= DB then redis.call('SELECT', db) end
end

-- renew keeps a session that is only read, if that adds a tenth of its idle timeout to its life. Redis may refuse to write (a
-- replica, a full disk, no memory); what it can read is answered all the same. It returns the hash of the list that keep
-- asks for, '' if none.
local function renew(s)
  local left, lasts = redis.call('PTTL', key), s.idle
  if ABSOLUTE > 0 then lasts = math.min(lasts, (tonumber(s.created) or 0) + ABSOLUTE - now()) end
  if left >= 0 and lasts - left <= s.idle / 10 then return '' end
  local kept, hash = pcall(keep, s)
  return kept and hash or ''
end
