-- The answer for a session that its account's list names for less than it may stand: for how long it should, since
-- when, by this server's clock, and which list. lasts: see parts/lasts.lua.
local list = redis.call('HGET', key, 'pycket:list')
if list then return redis.status_reply('L' .. string.format('%.0f %.0f ', lasts, now()) .. list) end
