-- Deletes the notifications, in their database. What is out of reach while a slot moves stays behind: with 'noted'
-- false nobody looks at it, and who sets the next forgets it first.
pcall(redis.call, 'DEL', notes)
pcall(redis.call, 'DEL', messages)
