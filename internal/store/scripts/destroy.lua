-- Ends a session by its id. Runs, last.
-- in: ARGV[2]: a token for the mark, by which the request recognizes its own if it has to try again; finish
-- returns: OK
finish(key, ' ' .. ARGV[2])
return OK
