-- Gives a session a new id. ARGV[2]: the verifier of the new id. Values and notifications stay where
-- they are; the old id's verifier no longer matches, and 'pycket:ended' says since when.
-- Tried twice it does the same as once: the first may have arrived without its answer.
if not living then
  local stands = redis.call('HGET', key, 'pycket:id')
  if stands and string.sub(stands, 1, 22) == ARGV[2] then return OK end
  return ended()
end
local rotated = ARGV[2] .. string.sub(record(), 23)
redis.call('HSET', key, 'pycket:id', rotated, 'pycket:ended', string.format('%.0f', now()))
keep(allowed())
return OK
