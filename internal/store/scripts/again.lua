-- Lets the next id open the session, too: the first try may have arrived without its answer. Runs, before open.
-- in: ARGV[2], its verifier
-- out: other
other = ARGV[2]
