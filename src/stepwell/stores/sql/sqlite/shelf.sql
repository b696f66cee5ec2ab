-- What is kept for runs beside their journals.

-- name: shelve
INSERT INTO shelf (owner, key, crc, value) VALUES [(?, ?, ?, ?)]*
ON CONFLICT (owner, key) DO UPDATE SET crc = excluded.crc, value = excluded.value

-- name: shelve_if_new
INSERT INTO shelf (owner, key, crc, value) VALUES [(?, ?, ?, ?)]* ON CONFLICT (owner, key) DO NOTHING

-- name: clear_shelf
DELETE FROM shelf WHERE owner = ? AND key >= ? AND key < ?

-- name: shelved
SELECT key, crc, value FROM shelf WHERE owner = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?

-- name: shelved_last_first
SELECT key, crc, value FROM shelf WHERE owner = ? AND key >= ? AND key < ? ORDER BY key DESC LIMIT ?

-- name: shelved_at
SELECT key, crc, value FROM shelf WHERE owner = ? AND key IN ([?]*)

-- name: shelf_owners
SELECT DISTINCT owner FROM shelf WHERE owner > ? ORDER BY owner LIMIT ?

-- name: shelf_page
SELECT number, owner, key, crc, value FROM shelf WHERE number > ? ORDER BY number LIMIT ?

-- name: shelf_proof
SELECT number, crc, length(value) FROM shelf WHERE owner = ? AND key = ?

-- name: shelf_holds
SELECT 1 FROM shelf WHERE owner = ? AND key >= ? AND key < ? LIMIT 1

-- name: delete_shelves
DELETE FROM shelf WHERE owner IN (SELECT run_id FROM runs WHERE id IN ([?]*))
