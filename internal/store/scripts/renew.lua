-- Renews a session that was read, and its place on the user's list. Runs; keep and place do it.
-- out: listed
listed = true
