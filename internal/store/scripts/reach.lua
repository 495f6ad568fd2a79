-- Fails if notifications may be waiting and their database, which keep uses, can't be used: nothing has been changed
-- yet. Runs, in scripts that don't use it themselves before they change anything.
-- in: noted
if noted then
  use('NDB')
  use('DB')
end
