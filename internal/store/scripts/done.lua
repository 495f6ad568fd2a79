-- Answers. Runs, last.
-- in: answer, OK or a table with '' first and id last; relist
-- returns: the answer; if the library is to take a place on the user's list, with the list's name first
if type(answer) == 'table' then
  if relist then answer[1] = relist end
elseif relist then
  return { relist, id }
end
return answer
