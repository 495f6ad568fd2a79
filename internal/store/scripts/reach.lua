-- Fails, before anything has changed, if notifications may be waiting and their database, which keep uses, can't be
-- used. Runs, in scripts that don't use that database themselves before they change anything.
-- in: noted
if noted then
  use('NDB')
  use('DB')
end
