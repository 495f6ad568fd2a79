-- Fails if notifications may be waiting and their database can't be used, before anything is changed: keep uses it. Runs, in
-- scripts that don't use it themselves.
-- in: noted
if noted then
  use('NDB')
  use('DB')
end
