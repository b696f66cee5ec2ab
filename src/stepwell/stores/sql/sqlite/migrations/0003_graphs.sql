-- Workflows that are data: their versions, what people call these, and outputs that are kept for other runs.

-- `number` is the order in which versions were first put; `digest` is 'draft' for a workflow's draft. `crc` is the
-- CRC-32 of `body`, which stands last so that lists do not read it.
CREATE TABLE definitions (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    dialect TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    sender TEXT NOT NULL,
    active INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (name, digest)
);
CREATE UNIQUE INDEX definitions_active ON definitions (name) WHERE active = 1;

CREATE TABLE definition_labels (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (name, label)
) WITHOUT ROWID;

-- A run needs the versions that it was upgraded to, beside the one that its row names.
CREATE INDEX journal_upgrades ON journal (run) WHERE kind = 'run.upgraded';

CREATE TABLE cached (
    key TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    expires_at INTEGER,
    crc INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX cached_expiry ON cached (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX cached_oldest ON cached (at);
