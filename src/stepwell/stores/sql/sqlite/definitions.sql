-- Deployed definitions, and outputs that are kept for other runs.

-- name: definition_columns
name, digest, dialect, created_at, updated_at, sender, active

-- name: definitions
SELECT {definition_columns} FROM definitions ORDER BY name, number DESC

-- name: definitions_of
SELECT {definition_columns} FROM definitions WHERE name = ? ORDER BY number DESC

-- name: definition
SELECT {definition_columns}, crc, body FROM definitions WHERE name = ? AND digest = ?

-- name: active_definition
SELECT {definition_columns}, crc, body FROM definitions WHERE name = ? AND active = 1

-- name: definition_exists
SELECT 1 FROM definitions WHERE name = ? AND digest = ?

-- name: put_definition
INSERT INTO definitions ({definition_columns}, crc, body) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)
ON CONFLICT (name, digest) DO UPDATE SET dialect = excluded.dialect, updated_at = excluded.updated_at,
    sender = CASE digest WHEN 'draft' THEN excluded.sender ELSE sender END, crc = excluded.crc, body = excluded.body

-- name: deactivate
UPDATE definitions SET active = 0 WHERE name = ? AND active = 1

-- name: activate
UPDATE definitions SET active = 1 WHERE name = ? AND digest = ?

-- name: is_active
SELECT active FROM definitions WHERE name = ? AND digest = ?

-- name: has_active
SELECT 1 FROM definitions WHERE name = ? AND active = 1

-- name: all_labels
SELECT name, label, digest FROM definition_labels ORDER BY name, label

-- name: labels_of
SELECT name, label, digest FROM definition_labels WHERE name = ? ORDER BY label

-- name: labelled
SELECT digest FROM definition_labels WHERE name = ? AND label = ?

-- name: put_label
INSERT INTO definition_labels (name, label, digest) VALUES (?, ?, ?)
ON CONFLICT (name, label) DO UPDATE SET digest = excluded.digest

-- name: definition_proof
SELECT updated_at, crc, active,
    (SELECT digest FROM definition_labels WHERE definition_labels.name = definitions.name AND label = ?)
FROM definitions WHERE name = ? AND digest = ?

-- name: versions_of_runs
SELECT DISTINCT workflow, version FROM runs WHERE workflow IN ([?]*)

-- name: upgrades_of_runs
SELECT runs.workflow, journal.body FROM journal INDEXED BY journal_upgrades JOIN runs ON runs.id = journal.run
WHERE journal.kind = 'run.upgraded' AND runs.workflow IN ([?]*)

-- name: definition_updated_at
SELECT updated_at FROM definitions WHERE name = ? AND digest = ?

-- name: drop_definition
DELETE FROM definitions WHERE name = ? AND digest = ?

-- name: drop_labels
DELETE FROM definition_labels WHERE name = ? AND digest = ?

-- name: cached
SELECT expires_at, crc, payload FROM cached WHERE key = ?

-- name: put_cached
INSERT INTO cached (key, at, expires_at, crc, payload) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET at = excluded.at, expires_at = excluded.expires_at, crc = excluded.crc,
    payload = excluded.payload

-- name: cached_proof
SELECT at, expires_at, crc FROM cached WHERE key = ?

-- name: forget_expired
DELETE FROM cached WHERE key IN (
    SELECT key FROM cached WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?
)

-- name: forget_cached
DELETE FROM cached WHERE at < ? OR (expires_at IS NOT NULL AND expires_at < ?)

-- name: any_cached_before
SELECT EXISTS (SELECT 1 FROM cached WHERE at < ? OR (expires_at IS NOT NULL AND expires_at < ?))
