-- Begins a session if the id is a new one. Runs, before open.
-- in: ARGV[2], '1' if the library has just made the id
-- out: fresh
-- returns: TAKEN
if ARGV[2] == '1' then
  if redis.call('EXISTS', key) == 1 then return TAKEN end
  fresh = id .. string.sub('0000000000000' .. now(), -13) .. '00' -- a clock may be at 1970
end
