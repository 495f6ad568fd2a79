-- Ends a session at the request of its own browser. ARGV[2]: the request's token, which the mark carries: by it
-- the request knows its own mark when it comes again, since the answer to the first was lost.
--@ begin
--@ unlist
--@ finish
if not living then
  --@ ended
end
finish(key, ARGV[2])
return OK
