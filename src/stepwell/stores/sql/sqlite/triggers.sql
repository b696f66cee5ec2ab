-- Triggers and their firings.

-- name: trigger_columns
name, kind, workflow, spec, input, options, paused, cursor, next_at, created_at, updated_at, sender

-- name: put_trigger
INSERT INTO triggers ({trigger_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, workflow = excluded.workflow, spec = excluded.spec,
    input = excluded.input, options = excluded.options, paused = excluded.paused, next_at = excluded.next_at,
    updated_at = excluded.updated_at, sender = excluded.sender

-- name: triggers
SELECT {trigger_columns} FROM triggers ORDER BY name

-- name: trigger
SELECT {trigger_columns} FROM triggers WHERE name = ?

-- name: remove_trigger
DELETE FROM triggers WHERE name = ?

-- name: remove_firings
DELETE FROM firings WHERE trigger_name = ?

-- name: trigger_exists
SELECT 1 FROM triggers WHERE name = ?

-- name: move_trigger
UPDATE triggers SET cursor = ?, next_at = ? WHERE name = ? AND cursor = ?

-- name: trigger_position
SELECT cursor, next_at FROM triggers WHERE name = ?

-- name: insert_firings
INSERT OR IGNORE INTO firings (trigger_name, key, occasion, at, run_id, note) VALUES [(?, ?, ?, ?, ?, ?)]*

-- name: firings
SELECT trigger_name, key, occasion, at, run_id, note FROM firings INDEXED BY firings_newest
WHERE trigger_name = ? ORDER BY number DESC LIMIT ?
