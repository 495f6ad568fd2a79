-- Queues a message. Runs.
-- in: ARGV[3]: the message
-- out: noted, bytes
-- returns: TOOLARGE
noted, bytes = true, bytes + #ARGV[3]
if bytes > MAXBYTES then return TOOLARGE end
local _, messages = names(key)
use('NDB')
redis.call('RPUSH', messages, ARGV[3])
use('DB')
