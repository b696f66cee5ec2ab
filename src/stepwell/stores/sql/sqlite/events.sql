-- Events, and the open waits that they and people are looked up in.

-- name: events_known
SELECT events.source, events.event_id
FROM (SELECT column1 AS source, column2 AS event_id FROM (VALUES [(?, ?)]*)) AS v
JOIN events ON events.source = v.source AND events.event_id = v.event_id

-- name: last_event
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)

-- name: insert_events
INSERT INTO events (position, topic, source, event_id, body, at, transient) VALUES [(?, ?, ?, ?, ?, ?, ?)]*

-- name: event_exists
SELECT 1 FROM events WHERE position = ?

-- name: wake_subscribers
UPDATE runs SET wake_at = min(coalesce(wake_at, ?), ?)
WHERE id IN (SELECT run FROM waits INDEXED BY waits_named WHERE kind = 'event' AND name = ?)
    AND owner IS NULL AND held_until IS NULL

-- name: event_columns
position, topic, source, event_id, body, at, transient

-- name: events
SELECT {event_columns} FROM events WHERE position > ? AND at >= ? ORDER BY position LIMIT ?

-- name: events_of_topic
SELECT {event_columns} FROM events INDEXED BY events_of_topic
WHERE topic = ? AND position > ? AND at >= ? ORDER BY position LIMIT ?

-- name: forget_events
DELETE FROM events WHERE at < ?

-- name: any_event_before
SELECT EXISTS (SELECT 1 FROM events INDEXED BY events_oldest WHERE at < ?)

-- name: open_wait_at
SELECT at, name, body FROM waits WHERE id = ?

-- name: open_waits_named
SELECT id, run FROM waits WHERE id IN ([?]*)

-- name: open_wait
INSERT INTO waits (id, run, kind, path, name, at, due, body) VALUES [(?, ?, ?, ?, ?, ?, ?, ?)]*
ON CONFLICT (id) DO UPDATE SET run = excluded.run, kind = excluded.kind, path = excluded.path, name = excluded.name,
    at = excluded.at, due = excluded.due, body = excluded.body

-- name: close_waits
DELETE FROM waits WHERE id IN ([?]*)

-- name: waits
SELECT waits.id, runs.run_id, waits.kind, waits.path, waits.name, waits.at, waits.due, waits.body
FROM waits JOIN runs ON runs.id = waits.run WHERE waits.kind = ?

-- name: waits_with_id
AND waits.id = ?

-- name: waits_of_run
SELECT waits.id, runs.run_id, waits.kind, waits.path, waits.name, waits.at, waits.due, waits.body
FROM waits INDEXED BY waits_run JOIN runs ON runs.id = waits.run
WHERE waits.kind = ? AND waits.run = (SELECT id FROM runs WHERE run_id = ?)

-- name: waits_with_name
AND waits.name = ?

-- name: waits_page
ORDER BY waits.at, waits.number LIMIT ? OFFSET ?
