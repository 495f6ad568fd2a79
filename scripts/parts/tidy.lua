-- Drops what cannot be alive any more from the list of an account.
local t = redis.call('TIME')
redis.pcall('ZREMRANGEBYSCORE', list, '-inf', t[1] .. string.sub('00000' .. t[2], -6))
