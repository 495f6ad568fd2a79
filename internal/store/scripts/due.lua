-- Ends a script that only reads, unless a renewal would add a tenth of the idle timeout to the session's life. Runs,
-- before keep. Redis may refuse to write (a replica, a full disk): what it can read is answered all the same.
-- in: answer; idle, left
-- returns: the answer
local rest = redis.call('PTTL', key)
if rest >= 0 and (left < idle and left or idle) - rest <= idle / 10 then return answer end
if type(redis.pcall('PEXPIRE', key, 'IDLE')) == 'table' then return answer end
