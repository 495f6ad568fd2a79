-- Ends a script that only reads, unless a renewal would add a tenth of the idle timeout to the session's life, or take
-- as much from one that lasts too long, since the clock was set back. Runs, before keep. Redis may refuse to write (a
-- replica, a full disk): the script still answers what it has read.
-- in: answer; idle, left
-- returns: the answer
local rest = redis.call('PTTL', key)
if rest >= 0 and math.abs((left < idle and left or idle) - rest) <= idle / 10 then return answer end
if type(redis.pcall('HDEL', key, 'pycket:ends')) == 'table' then return answer end
