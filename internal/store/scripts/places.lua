-- Answers how many places a list has. Runs, last.
-- in: places
-- returns: the number, as text in a list
return { places .. '' }
