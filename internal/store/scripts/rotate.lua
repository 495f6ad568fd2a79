-- Gives a session a new id. Values and notifications stay where they are. Tried again, it does the same. Runs.
-- in: ARGV[2]: its verifier
-- out: verifier, last
if verifier ~= ARGV[2] then
  verifier, last = ARGV[2], 4
  ARGV[3], ARGV[4] = 'pycket:ended', now()
end
