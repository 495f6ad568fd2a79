-- Answers. Runs, last.
-- in: answer, OK or text or, of a script that reads notifications, a table with '' first; relist
-- returns: the answer; if the library is to take a place on the user's list, with the list's name first
if relist and type(answer) == 'table' then
  answer[1] = relist
elseif relist then
  return { relist, answer ~= OK and answer or nil }
end
return answer
