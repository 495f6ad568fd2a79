-- Gives a session a new id. ARGV[2]: the verifier of the new id. Values and notifications stay where
-- they are; the old id's verifier no longer matches, and 'pycket:ended' says since when.
-- Tried twice it does the same as once: the first may have arrived without its answer.
--@ begin
if not living then
  if record and string.sub(record, 1, 22) == ARGV[2] then return OK end
  --@ ended
end
redis.call('HSET', key, 'pycket:id', ARGV[2] .. string.sub(record, 23), 'pycket:ended', string.format('%.0f', now()))
--@ keep
return OK
