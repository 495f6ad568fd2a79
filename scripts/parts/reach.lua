-- Finds out, before anything is changed, whether the notifications' database is there and may be used.
if NDB ~= DB then
  redis.call('SELECT', NDB)
  redis.call('SELECT', DB)
end
