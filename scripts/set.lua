-- Sets values of a session, all or none. ARGV[2]: '1' if the session may be made by this;
-- ARGV[3…]: name, value, name, value …
--@ begin
if not living then
  --@ born
end
local target = key
--@ grow
--@ count
--@ put
--@ keep
return OK
