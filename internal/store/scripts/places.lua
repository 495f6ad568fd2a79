-- Answers how many places a list has. Runs, last.
-- in: places
-- returns: the number, as text in a list, and ARGV[1]
return { places .. '', id }
