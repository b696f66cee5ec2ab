-- The first schema. Works from SQLite 3.35 on: no STRICT, no JSONB. Times are microseconds since 1970 (UTC).

-- What this file is: store_id, created_by.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Who drives, and who drove: one row per generation, the highest with driving = 1 is the driver. `locked` tells
-- whether it holds the operating system's lock on the side file (one that took over from a frozen process does not).
CREATE TABLE workers (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    worker TEXT NOT NULL,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    driving INTEGER NOT NULL,
    locked INTEGER NOT NULL
);

-- One small row per run; payloads stay out of it. `id` is the order of creation.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    root TEXT NOT NULL,
    parent TEXT,
    priority INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER,
    next_seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    owner TEXT,
    wake_at INTEGER,
    claims INTEGER NOT NULL,
    input_hash TEXT NOT NULL
);
-- What an append changes in a run that just goes on (next_seq, updated_at, claims) stands in no index.
CREATE INDEX runs_due ON runs (workflow, priority, wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;
CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_newest ON runs (created_at, id);
CREATE INDEX runs_status ON runs (status, created_at, id);
CREATE INDEX runs_root ON runs (root);
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- The journals. A rowid table, so that the appends of a thousand runs land on the same few pages at its end:
-- clustered by run they would dirty a thousand pages a commit. `crc` is the CRC-32 of `body`, begun at `seq`.
CREATE TABLE journal (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (run, seq)
);

-- Messages to runs; consumed ones stay until their run goes, so that a repeated post is still known.
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL,
    sender TEXT NOT NULL,
    consumed_seq INTEGER
);
CREATE UNIQUE INDEX mailbox_once ON mailbox (run, kind, name, key) WHERE key <> '';
CREATE INDEX mailbox_run ON mailbox (run, consumed_seq, id);
CREATE INDEX mailbox_open ON mailbox (id) WHERE consumed_seq IS NULL;

-- Payloads too large for an entry, by content hash, and which runs' entries refer to them.
CREATE TABLE blobs (
    hash TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE blob_uses (
    run INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (run, hash)
) WITHOUT ROWID;
CREATE INDEX blob_uses_hash ON blob_uses (hash);
