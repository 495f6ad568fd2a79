-- Ends a session at the request of its own browser. ARGV[2]: a token for the mark, by which the request knows its
-- own when it has to try again.
local s, ended = open()
if not s then return ended end
finish(key, ' ' .. ARGV[2])
return OK
