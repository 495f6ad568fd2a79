-- The answer for an id that is not alive. If it was destroyed ('D') or rotated away ('R'): how many
-- milliseconds ago, and the token of the request that did it, if there is one; the client knows whether its
-- request was under way then, or did it itself.
local at, token = string.match(redis.call('HGET', key, 'pycket:ended') or '', '^(%d+) ?(%w*)$')
at = tonumber(at)
if not at or not (at > 0 and at < 1e15) then return EXPIRED end
local ago = string.format('%.0f', math.max(0, now() - at))
return redis.status_reply((record and 'R' or 'D') .. ago .. ' ' .. token)
