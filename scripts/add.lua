-- Queues a message. ARGV[2]: '1' if the session may be made by this; ARGV[3]: the message.
--@ begin
if not living then
  --@ born
end
if bytes + #ARGV[3] > MAXBYTES then return TOOLARGE end
--@ notes
select(NDB)
redis.call('RPUSH', messages, ARGV[3])
select(DB)
bytes, noted = bytes + #ARGV[3], true
--@ store
--@ keep
return OK
