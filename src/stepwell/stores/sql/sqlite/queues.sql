-- Queues: who stands in one, lane by lane, and who is under way. `{held}` and `{under_way}` are the conditions of the
-- partial indices, word for word.

-- name: held
held_until IS NOT NULL AND owner IS NULL AND wake_at IS NULL

-- name: under_way
queue <> '' AND held_until IS NULL AND status NOT IN ('completed', 'failed', 'cancelled')

-- name: queue_columns
name, concurrency, concurrency_per_key, rate, rate_per_key, period, paused

-- name: put_queue
INSERT OR REPLACE INTO queues ({queue_columns}) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: queue
SELECT {queue_columns} FROM queues WHERE name = ?

-- name: queues
SELECT {queue_columns} FROM queues

-- name: queues_of_runs
-- A hop through the index, one probe a queue.
WITH RECURSIVE names (name) AS (
    SELECT min(queue) FROM runs INDEXED BY runs_queue WHERE queue <> ''
    UNION ALL
    SELECT (SELECT min(queue) FROM runs INDEXED BY runs_queue WHERE queue <> '' AND queue > names.name)
    FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL

-- name: count_held
SELECT count(*) FROM runs INDEXED BY runs_held WHERE {held} AND queue = ?

-- name: count_under_way
SELECT count(*) FROM runs INDEXED BY runs_under_way WHERE {under_way} AND queue = ?

-- name: count_under_way_of_key
SELECT count(*) FROM runs INDEXED BY runs_under_way WHERE {under_way} AND queue = ? AND queue_key = ?

-- name: counts_under_way
SELECT queue_key, count(*) FROM runs INDEXED BY runs_under_way WHERE {under_way} AND queue = ? GROUP BY queue_key

-- name: newest_let_in
SELECT admitted_at FROM runs INDEXED BY runs_let_in
WHERE admitted_at IS NOT NULL AND queue = ? AND admitted_at > ? ORDER BY admitted_at DESC LIMIT ?

-- name: newest_let_in_of_key
SELECT admitted_at FROM runs INDEXED BY runs_let_in_of_key
WHERE admitted_at IS NOT NULL AND queue = ? AND queue_key = ? AND admitted_at > ? ORDER BY admitted_at DESC LIMIT ?

-- name: held_lanes
-- The priorities in the queue, with the first who is due or not, and the first who is not.
WITH RECURSIVE
wanted (queue, now) AS (VALUES (?, ?)),
lanes (priority) AS (
    SELECT (SELECT max(priority) FROM runs INDEXED BY runs_held WHERE {held} AND runs.queue = wanted.queue) FROM wanted
    UNION ALL
    SELECT (
        SELECT max(priority) FROM runs INDEXED BY runs_held
        WHERE {held} AND runs.queue = wanted.queue AND runs.priority < lanes.priority
    ) FROM lanes CROSS JOIN wanted WHERE lanes.priority IS NOT NULL
)
SELECT priority, (
    SELECT min(held_until) FROM runs INDEXED BY runs_held
    WHERE {held} AND runs.queue = wanted.queue AND runs.priority = lanes.priority
), (
    SELECT min(held_until) FROM runs INDEXED BY runs_held
    WHERE {held} AND runs.queue = wanted.queue AND runs.priority = lanes.priority AND held_until > wanted.now
) FROM lanes CROSS JOIN wanted WHERE priority IS NOT NULL

-- Who stands in a lane behind a place in it: those of the same time, then those of later times up to now. (One query for
-- both would look through all of the same time again for every page.)

-- name: held_in_lane_at
SELECT held_until, id, queue_key, awaited FROM runs INDEXED BY runs_held
WHERE {held} AND queue = ? AND priority = ? AND held_until = ? AND id > ? ORDER BY id LIMIT ?

-- name: held_in_lane_after
SELECT held_until, id, queue_key, awaited FROM runs INDEXED BY runs_held
WHERE {held} AND queue = ? AND priority = ? AND held_until > ? AND held_until <= ?
ORDER BY held_until, id LIMIT ?

-- name: awaited_in_lane_at
SELECT held_until, id, queue_key, awaited FROM runs INDEXED BY runs_held_awaited
WHERE {held} AND awaited = 1 AND queue = ? AND priority = ? AND held_until = ? AND id > ? ORDER BY id LIMIT ?

-- name: awaited_in_lane_after
SELECT held_until, id, queue_key, awaited FROM runs INDEXED BY runs_held_awaited
WHERE {held} AND awaited = 1 AND queue = ? AND priority = ? AND held_until > ? AND held_until <= ?
ORDER BY held_until, id LIMIT ?

-- name: held_in_lane_of_key_at
SELECT held_until, id, queue_key, awaited FROM runs INDEXED BY runs_held_of_key
WHERE {held} AND queue = ? AND queue_key = ? AND priority = ? AND held_until = ? AND id > ? ORDER BY id LIMIT ?

-- name: held_in_lane_of_key_after
SELECT held_until, id, queue_key, awaited FROM runs INDEXED BY runs_held_of_key
WHERE {held} AND queue = ? AND queue_key = ? AND priority = ? AND held_until > ? AND held_until <= ?
ORDER BY held_until, id LIMIT ?

-- name: held_lanes_of_keys
-- The keys and priorities in the queue, with the first in each lane: a hop through the index, two probes a lane.
WITH RECURSIVE
wanted (queue) AS (VALUES (?)),
lanes (id) AS (
    SELECT (
        SELECT id FROM runs INDEXED BY runs_held_of_key WHERE {held} AND runs.queue = wanted.queue
        ORDER BY queue_key, priority, held_until, id LIMIT 1
    ) FROM wanted
    UNION ALL
    SELECT coalesce((
        SELECT id FROM runs INDEXED BY runs_held_of_key
        WHERE {held} AND runs.queue = wanted.queue AND queue_key = here.queue_key AND priority > here.priority
        ORDER BY priority, held_until, id LIMIT 1
    ), (
        SELECT id FROM runs INDEXED BY runs_held_of_key
        WHERE {held} AND runs.queue = wanted.queue AND queue_key > here.queue_key
        ORDER BY queue_key, priority, held_until, id LIMIT 1
    )) FROM lanes CROSS JOIN runs AS here ON here.id = lanes.id CROSS JOIN wanted
)
SELECT runs.priority, runs.held_until, runs.id, runs.queue_key, runs.awaited
FROM lanes CROSS JOIN runs ON runs.id = lanes.id

-- name: awaits_a_child
runs.status = 'waiting' AND EXISTS (
    SELECT 1 FROM runs AS child INDEXED BY runs_awaited WHERE child.awaited = 1 AND child.parent = runs.run_id
        AND child.status NOT IN ('completed', 'failed', 'cancelled')
)

-- name: moves
SELECT 1 FROM runs INDEXED BY runs_under_way WHERE {under_way} AND queue = ? AND NOT ({awaits_a_child}) LIMIT 1

-- name: moves_of_key
SELECT 1 FROM runs INDEXED BY runs_under_way
WHERE {under_way} AND queue = ? AND queue_key = ? AND NOT ({awaits_a_child}) LIMIT 1

-- name: let_in
UPDATE runs SET held_until = NULL, wake_at = ?, admitted_at = ? WHERE id IN ([?]*)

-- name: let_in_at
SELECT admitted_at FROM runs WHERE id = ?

-- name: run_ids
SELECT id, run_id FROM runs WHERE id IN ([?]*)
