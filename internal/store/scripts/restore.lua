-- Puts a notification back that was taken, unless one of its name has been set since. Runs.
-- in: ARGV[2]: name; ARGV[3]: value
-- out: noted, bytes
-- returns: OK
local notes = names(key)
use('NDB')
local set = redis.call('HSETNX', notes, ARGV[2], ARGV[3])
use('DB')
if set == 0 then return OK end
noted, bytes = true, bytes + #ARGV[2] + #ARGV[3] -- which it had before: no limit is asked
