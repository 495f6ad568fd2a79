-- Gives a session a new id. ARGV[2]: its verifier. Values and notifications stay where they are. Tried again, it does the
-- same: the first may have arrived without its answer.
local s, ended = open(nil, ARGV[2])
if not s then return ended end
if s.verifier ~= ARGV[2] then
  s.verifier = ARGV[2]
  redis.call('HSET', key, 'pycket:id', format(s), 'pycket:ended', whole(now()))
end
return done(s, OK)
