-- Who may own runs, and taking runs that are due.

-- name: driver
SELECT generation, worker, pid, host, started_at, lease_until, locked FROM workers WHERE driving = 1
ORDER BY generation DESC LIMIT 1

-- name: still_driving
SELECT 1 FROM workers WHERE driving = 1 AND generation = ?

-- name: lease
SELECT lease_until FROM workers WHERE driving = 1 AND generation = ?

-- name: end_driving
UPDATE workers SET driving = 0 WHERE driving = 1

-- name: begin_driving
INSERT INTO workers (worker, pid, host, started_at, lease_until, driving, locked) VALUES (?, ?, ?, ?, ?, 1, ?)

-- name: forget_drivers
DELETE FROM workers WHERE driving = 0 AND generation <= ?

-- name: renew
UPDATE workers SET lease_until = ?, locked = ? WHERE generation = ? AND driving = 1

-- name: stop_driving
UPDATE workers SET driving = 0, locked = 0 WHERE generation = ? AND driving = 1

-- name: free_runs
UPDATE runs SET owner = NULL, wake_at = min(coalesce(wake_at, ?), ?) WHERE owner IS NOT NULL

-- name: lanes
-- Which priorities the unowned runs of each workflow have, and when the first of each is due: a hop through the
-- index, one probe a lane, so that a million sleeping runs are not looked at.
WITH RECURSIVE
wanted (workflow) AS (VALUES [(?)]*),
lanes (workflow, priority) AS (
    SELECT workflow, (
        SELECT max(priority) FROM runs INDEXED BY runs_due
        WHERE owner IS NULL AND wake_at IS NOT NULL AND runs.workflow = wanted.workflow
    ) FROM wanted WHERE workflow IS NOT NULL
    UNION ALL
    SELECT workflow, (
        SELECT max(priority) FROM runs INDEXED BY runs_due
        WHERE owner IS NULL AND wake_at IS NOT NULL AND runs.workflow = lanes.workflow
            AND runs.priority < lanes.priority
    ) FROM lanes WHERE priority IS NOT NULL
)
SELECT workflow, priority, (
    SELECT min(wake_at) FROM runs INDEXED BY runs_due
    WHERE owner IS NULL AND wake_at IS NOT NULL AND runs.workflow = lanes.workflow AND runs.priority = lanes.priority
) FROM lanes WHERE priority IS NOT NULL

-- name: due
SELECT wake_at, id FROM runs INDEXED BY runs_due
WHERE owner IS NULL AND wake_at IS NOT NULL AND workflow = ? AND priority = ? AND wake_at <= ?
ORDER BY wake_at, id LIMIT ?

-- name: take
UPDATE runs SET owner = ?, epoch = epoch + 1, claims = claims + 1, wake_at = NULL
WHERE owner IS NULL AND id IN ([?]*)

-- name: open_messages_of
SELECT mailbox.id, runs.run_id, mailbox.kind, mailbox.name, mailbox.body, mailbox.at, mailbox.sender
FROM mailbox JOIN runs ON runs.id = mailbox.run
WHERE mailbox.consumed_seq IS NULL AND mailbox.run IN ([?]*) ORDER BY mailbox.id
