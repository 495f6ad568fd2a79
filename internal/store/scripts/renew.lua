-- Renews a session that was read, or tells how it ended.
local s, ended = open()
if not s then return ended end
return done(s, OK, true)
