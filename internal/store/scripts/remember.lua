-- Gives a session an idle timeout of its own. Runs.
-- in: ARGV[2]: milliseconds
-- out: own, idle, last, listed
own, idle, last, listed = true, tonumber(ARGV[2]), 4, true
ARGV[3], ARGV[4] = 'pycket:idle', ARGV[2]
