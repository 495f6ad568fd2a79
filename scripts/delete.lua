-- Deletes values of a session. ARGV[2…]: names. An emptied session is still a session.
--@ begin
if not living then
  --@ ended
end
local target = key
--@ drop
--@ store
--@ keep
return OK
