-- Renews a session that was read: its place, too. Runs.
-- out: listed
listed = true
