-- Deleting, checking.

-- name: ended_trees
SELECT root, count(*) FROM runs WHERE root IN (
    SELECT root FROM runs AS ended INDEXED BY runs_finished
    WHERE ended.finished_at IS NOT NULL AND ended.finished_at < ? AND NOT EXISTS (
        SELECT 1 FROM runs AS member INDEXED BY runs_root
        WHERE member.root = ended.root AND (
            member.finished_at IS NULL OR member.finished_at >= ?
            OR member.owner IS NOT NULL OR member.wake_at IS NOT NULL
            OR member.status NOT IN ('completed', 'failed', 'cancelled')
        )
    )
    GROUP BY root ORDER BY min(ended.finished_at), root LIMIT ?
)
GROUP BY root ORDER BY min(finished_at), root

-- name: runs_of_trees
SELECT id FROM runs WHERE root IN ([?]*)

-- name: uses_of_runs
SELECT DISTINCT hash FROM blob_uses WHERE run IN ([?]*)

-- name: delete_entries
DELETE FROM journal WHERE run IN ([?]*)

-- name: delete_messages
DELETE FROM mailbox WHERE run IN ([?]*)

-- name: delete_waits
DELETE FROM waits WHERE run IN ([?]*)

-- name: delete_uses
DELETE FROM blob_uses WHERE run IN ([?]*)

-- name: delete_runs
DELETE FROM runs WHERE id IN ([?]*)

-- name: delete_blobs
DELETE FROM blobs WHERE hash IN ([?]*) AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE blob_uses.hash = blobs.hash)

-- name: entry_page
SELECT rowid, run, seq, kind, body, crc FROM journal WHERE rowid > ? ORDER BY rowid LIMIT ?

-- name: gaps
SELECT runs.run_id, runs.next_seq, count(journal.seq), coalesce(max(journal.seq), 0)
FROM runs LEFT JOIN journal ON journal.run = runs.id
GROUP BY runs.id HAVING count(journal.seq) <> runs.next_seq - 1 OR coalesce(max(journal.seq), 0) <> runs.next_seq - 1
LIMIT 20

-- name: homeless
SELECT
    (SELECT count(*) FROM journal WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = journal.run)),
    (SELECT count(*) FROM mailbox WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = mailbox.run)),
    (SELECT count(*) FROM blob_uses WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = blob_uses.run)),
    (SELECT count(*) FROM blobs WHERE NOT EXISTS (SELECT 1 FROM blob_uses WHERE blob_uses.hash = blobs.hash)),
    (SELECT count(*) FROM waits WHERE NOT EXISTS (
        SELECT 1 FROM runs WHERE runs.id = waits.run AND runs.status NOT IN ('completed', 'failed', 'cancelled')
    )),
    (SELECT count(*) FROM firings WHERE NOT EXISTS (SELECT 1 FROM triggers WHERE triggers.name = firings.trigger_name)),
    (SELECT count(*) FROM definition_labels WHERE NOT EXISTS (
        SELECT 1 FROM definitions
        WHERE definitions.name = definition_labels.name AND definitions.digest = definition_labels.digest
    ))

-- name: missing_blobs
SELECT runs.run_id, blob_uses.hash FROM blob_uses JOIN runs ON runs.id = blob_uses.run
WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.hash = blob_uses.hash) LIMIT 20

-- name: blob_hashes
SELECT hash FROM blobs WHERE hash > ? ORDER BY hash LIMIT 500

-- name: run_named_by_number
SELECT run_id FROM runs WHERE id = ?

-- name: sizes
SELECT (SELECT count(*) FROM runs), (SELECT coalesce(max(rowid), 0) FROM journal)
