-- Binds a session to a user, in one step with its new id and its values. What another user has left in it goes. Runs,
-- and only looks: weigh, bind, write, keep, place and limit do it.
-- in: ARGV[3]: the verifier of the new id, '' to keep the id; ARGV[4]: the user, '' for none; ARGV[5]: the hash that
--   names the user's list; ARGV[6]: '1' for an authentication, 'r' for one in a request that has called Remember, '0'
--   for none; ARGV[7]: the browser's user agent; ARGV[8…]: name, value …
-- out: new, user, hash, auth, agent, of ARGV; before, whose the session was; leaves, whether that user leaves it; gone,
--   the fields that go then; bytes, first, last, listed, empty
local new, user, hash, auth, agent = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local before = redis.call('HGET', key, 'pycket:user')
local leaves, gone = before and before ~= user, {}
if leaves then
  bytes = 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 7) ~= 'pycket:' or name == 'pycket:agent' then gone[#gone + 1] = name end
  end
end
if MAXSESSIONS > 0 then -- others may end: see finish
  use('NDB')
  use('DB')
end
local empty = fresh or leaves
first, last, listed = 8, #ARGV, true
