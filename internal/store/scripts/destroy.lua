-- Ends a session at the request of its own browser. Runs, last.
-- in: ARGV[2]: a token for the mark, by which the request knows its own when it has to try again; finish
-- returns: OK
finish(key, ' ' .. ARGV[2])
return OK
