-- Rows of runs: reading them, creating them, moving them forward, and the mailbox beside them.
-- `[…]*` is repeated with commas between, once for each row that is handed over; `{name}` is another query's text.

-- name: run_columns
run_id, workflow, version, status, root, parent, priority, labels, created_at, updated_at, finished_at, next_seq,
epoch, owner, wake_at, claims, input_hash, queue, queue_key, held_until

-- name: run
SELECT {run_columns} FROM runs WHERE run_id = ?

-- name: runs_named
SELECT id, {run_columns} FROM runs WHERE run_id IN ([?]*)

-- name: runs_numbered
SELECT id, {run_columns} FROM runs WHERE id IN ([?]*)

-- name: last_run
SELECT coalesce(max(id), 0) FROM runs

-- name: insert_runs
INSERT INTO runs (id, {run_columns}, admitted_at, awaited, unique_key, unique_until)
VALUES [(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)]*

-- name: live_of_keys
-- Who may keep these unique keys from others.
SELECT unique_key, unique_until, {run_columns} FROM runs INDEXED BY runs_unique
WHERE unique_key IS NOT NULL AND unique_key IN ([?]*)
    AND status IN ('pending', 'running', 'waiting', 'paused', 'stuck')
ORDER BY id

-- name: free_keys
UPDATE runs SET unique_key = NULL WHERE unique_key IS NOT NULL AND unique_key IN ([?]*)

-- name: advance_going
-- An append to a run that just goes on: nothing that stands in an index changes. The status is part of the fence
-- only because it is taken from memory here.
UPDATE runs SET next_seq = v.following, updated_at = v.at, claims = 0
FROM (
    SELECT column1 AS id, column2 AS epoch, column3 AS seq, column4 AS following, column5 AS status, column6 AS at
    FROM (VALUES [(?, ?, ?, ?, ?, ?)]*)
) AS v
WHERE runs.id = v.id AND runs.epoch = v.epoch AND runs.next_seq = v.seq AND runs.status = v.status
    AND runs.owner = ?

-- name: advance_one
-- The same for a single run.
UPDATE runs SET next_seq = ?, updated_at = ?, claims = 0
WHERE id = ? AND epoch = ? AND next_seq = ? AND status = ? AND owner = ?

-- name: advance
UPDATE runs SET
    next_seq = v.following, updated_at = v.at, status = v.status, wake_at = v.wake_at, finished_at = v.finished_at,
    owner = CASE WHEN v.gives_up THEN NULL ELSE runs.owner END,
    claims = CASE WHEN v.progress OR v.gives_up THEN 0 ELSE runs.claims END
FROM (
    SELECT column1 AS id, column2 AS epoch, column3 AS seq, column4 AS following, column5 AS status, column6 AS at,
        column7 AS wake_at, column8 AS finished_at, column9 AS gives_up, column10 AS progress
    FROM (VALUES [(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)]*)
) AS v
WHERE runs.id = v.id AND runs.epoch = v.epoch AND runs.next_seq = v.seq AND runs.owner = ?

-- name: insert_entries
INSERT INTO journal (run, seq, epoch, kind, body, crc) VALUES [(?, ?, ?, ?, ?, ?)]*

-- name: wake_unseen
-- A run that was given up while a message came that its owner had not been shown: it is due again.
UPDATE runs SET wake_at = min(coalesce(runs.wake_at, v.at), v.at)
FROM (SELECT column1 AS id, column2 AS seen, column3 AS at FROM (VALUES [(?, ?, ?)]*)) AS v
WHERE runs.id = v.id AND runs.owner IS NULL AND EXISTS (
    SELECT 1 FROM mailbox WHERE mailbox.run = v.id AND mailbox.consumed_seq IS NULL AND mailbox.id > v.seen
        AND (runs.held_until IS NULL OR mailbox.kind = 'cancel')
)

-- name: wake_unheard
-- The same for an event on a topic that it waits for.
UPDATE runs SET wake_at = min(coalesce(runs.wake_at, v.at), v.at)
FROM (
    SELECT column1 AS id, column2 AS topic, column3 AS heard, column4 AS at FROM (VALUES [(?, ?, ?, ?)]*)
) AS v
WHERE runs.id = v.id AND runs.owner IS NULL AND runs.held_until IS NULL AND EXISTS (
    SELECT 1 FROM events INDEXED BY events_of_topic WHERE events.topic = v.topic AND events.position > v.heard
)

-- name: leave_queues
-- Runs that have ended wait to be let in no longer.
UPDATE runs SET held_until = NULL WHERE id IN ([?]*)

-- name: wake
UPDATE runs SET wake_at = v.at
FROM (SELECT column1 AS id, column2 AS at FROM (VALUES [(?, ?)]*)) AS v
WHERE runs.id = v.id AND runs.owner IS NULL AND (runs.wake_at IS NULL OR runs.wake_at > v.at)

-- name: put_off
-- Runs that have not begun want to be driven, or to be let in, at another time.
UPDATE runs SET wake_at = v.wake_at, held_until = v.held_until
FROM (SELECT column1 AS id, column2 AS wake_at, column3 AS held_until FROM (VALUES [(?, ?, ?)]*)) AS v
WHERE runs.id = v.id AND runs.owner IS NULL

-- name: posted_before
SELECT mailbox.run, mailbox.kind, mailbox.name, mailbox.key
FROM (SELECT column1 AS run, column2 AS kind, column3 AS name, column4 AS key FROM (VALUES [(?, ?, ?, ?)]*)) AS v
JOIN mailbox ON mailbox.run = v.run AND mailbox.kind = v.kind AND mailbox.name = v.name AND mailbox.key = v.key
    AND mailbox.key <> ''

-- name: message_posted
SELECT mailbox.id, runs.run_id, mailbox.kind, mailbox.name, mailbox.body, mailbox.at, mailbox.sender
FROM runs CROSS JOIN mailbox ON mailbox.run = runs.id
WHERE runs.run_id = ? AND mailbox.kind = ? AND mailbox.name = ? AND mailbox.key = ? AND mailbox.key <> ''

-- name: last_message
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mailbox'), 0)

-- name: insert_messages
INSERT INTO mailbox (id, run, kind, name, key, body, at, sender) VALUES [(?, ?, ?, ?, ?, ?, ?, ?)]*

-- name: consume
UPDATE mailbox SET consumed_seq = v.seq
FROM (SELECT column1 AS id, column2 AS run, column3 AS seq FROM (VALUES [(?, ?, ?)]*)) AS v
WHERE mailbox.id = v.id AND mailbox.run = v.run AND mailbox.consumed_seq IS NULL

-- name: insert_blob
INSERT OR IGNORE INTO blobs (hash, size, crc, data) VALUES (?, ?, ?, ?)

-- name: insert_uses
INSERT OR IGNORE INTO blob_uses (run, hash) VALUES [(?, ?)]*

-- name: message_exists
SELECT 1 FROM mailbox WHERE id = ?

-- name: run_exists
SELECT 1 FROM runs WHERE run_id = ?

-- name: entry_exists
SELECT epoch FROM journal WHERE run = ? AND seq = ?

-- name: run_position
SELECT next_seq, status, owner, updated_at FROM runs WHERE id = ?

-- name: run_fence
SELECT epoch, owner FROM runs WHERE run_id = ?
