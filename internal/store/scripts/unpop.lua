-- Puts back a value that was taken out, unless one of that name has been set since. Runs.
-- in: ARGV[2]: name; ARGV[3]: value
-- out: bytes
-- returns: OK
if redis.call('HSETNX', key, ARGV[2], ARGV[3]) == 0 then return OK end
bytes = bytes + #ARGV[2] + #ARGV[3] -- it had them before: the limit is not checked
