-- The answer for a session that its account's list names for less than it may stand: that, and which list.
return redis.status_reply('L' .. string.format('%.0f', want) .. ' ' .. redis.sha1hex(redis.call('HGET', key, 'pycket:user') or ''))
