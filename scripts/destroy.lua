-- Ends a session at the request of its own browser.
--@ begin
--@ unlist
--@ finish
if not living then
  --@ ended
end
finish(key)
return OK
