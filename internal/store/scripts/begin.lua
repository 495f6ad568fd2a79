-- Begins a session if it may be one that begins. Runs, before open.
-- in: ARGV[2], '1' if the id is one that the library has just made
-- out: fresh
-- returns: TAKEN
if ARGV[2] == '1' then
  if redis.call('EXISTS', key) == 1 then return TAKEN end
  fresh = id .. now() .. '00'
end
