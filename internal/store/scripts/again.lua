-- Lets the next id open the session, too: an earlier try may have succeeded, its answer lost. Runs, before open.
-- in: ARGV[2], its verifier
-- out: other
other = ARGV[2]
