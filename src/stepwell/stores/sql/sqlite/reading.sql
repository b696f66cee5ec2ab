-- What readers ask; `{run_columns}` stands in runs.sql.

-- name: position
SELECT id, next_seq FROM runs WHERE run_id = ?

-- name: entries
SELECT seq, epoch, kind, body, crc FROM journal WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?

-- name: heads
SELECT runs.run_id, runs.next_seq, journal.seq, journal.epoch, journal.kind, journal.body, journal.crc
FROM runs CROSS JOIN journal ON journal.run = runs.id
WHERE runs.run_id IN ([?]*) AND journal.seq <= ?
ORDER BY runs.id, journal.seq

-- name: blob
SELECT size, crc, data FROM blobs WHERE hash = ?

-- name: open_messages_after
SELECT mailbox.id, runs.run_id, mailbox.kind, mailbox.name, mailbox.body, mailbox.at, mailbox.sender
FROM mailbox INDEXED BY mailbox_open CROSS JOIN runs ON runs.id = mailbox.run
WHERE mailbox.consumed_seq IS NULL AND mailbox.id > ? AND runs.owner = ? ORDER BY mailbox.id

-- name: open_messages
SELECT mailbox.id, runs.run_id, mailbox.kind, mailbox.name, mailbox.body, mailbox.at, mailbox.sender
FROM runs CROSS JOIN mailbox ON mailbox.run = runs.id
WHERE runs.run_id = ? AND mailbox.consumed_seq IS NULL ORDER BY mailbox.id

-- name: count
SELECT status, count(*) FROM runs GROUP BY status

-- name: find
SELECT {run_columns} FROM runs WHERE 1

-- name: find_status
AND status IN ([?]*)

-- name: find_workflow
AND workflow = ?

-- name: find_root
AND root = ?

-- name: find_parent
AND parent = ?

-- name: find_queue
AND queue = ? AND queue <> ''

-- name: find_label
AND EXISTS (SELECT 1 FROM json_each(runs.labels) AS label WHERE label.key = ? AND label.atom = ?)

-- name: find_search
AND (instr(lower(run_id), ?) OR instr(lower(workflow), ?))

-- name: find_created_after
AND created_at > ?

-- name: find_created_before
AND created_at < ?

-- name: find_page
ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?
