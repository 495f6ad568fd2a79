-- Ends the oldest sessions of a user who has logged in and has too many. In a cluster the library does this. Runs,
-- last.
-- in: user, hash, auth; own, idle; places; member, unlist, finish
-- returns: the session's own idle timeout or '', how many places the user's list has, how many sessions it has ended,
--   and id
local ended = 0
if auth ~= '0' and MAXSESSIONS > 0 and not CLUSTER then
  local handles, others = redis.pcall('ZRANGE', LIST .. '{' .. hash .. '}', 0, -1), {}
  for i = 1, handles.err and 0 or #handles do -- a key of another type is not pycket's
    local k = SESSION .. '{' .. handles[i] .. '}'
    if k ~= key then
      local created, fields = member(k, user)
      if not created then
        unlist(hash, k)
      elseif fields then
        others[#others + 1] = { k, tonumber(fields[4] or nil) or (tonumber(created) or 0) * 1000 }
      end
    end
  end
  table.sort(others, function(a, b) return a[2] < b[2] end)
  ended = math.max(0, #others + 1 - MAXSESSIONS)
  for i = 1, ended do finish(others[i][1], '') end
end
return { own and idle .. '' or '', places .. '', ended .. '', id }
