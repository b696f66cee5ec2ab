-- People, events, queues and triggers. Every index on runs is partial: a run that uses none of this is in none of them.

-- `held_until` is set while a run waits in its queue; `admitted_at` is when it was let in. `unique_key` is set as long
-- as the run may keep the key from others (`unique_until`: begun, ended); `awaited` says that its parent waits for it.
ALTER TABLE runs ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN queue_key TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN held_until INTEGER;
ALTER TABLE runs ADD COLUMN admitted_at INTEGER;
ALTER TABLE runs ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN unique_key TEXT;
ALTER TABLE runs ADD COLUMN unique_until TEXT;

CREATE INDEX runs_unique ON runs (unique_key, status) WHERE unique_key IS NOT NULL;
CREATE INDEX runs_queue ON runs (queue, created_at, id) WHERE queue <> '';
-- Who stands in a queue: a lane per priority, and a lane per key and priority so that no key hides the others.
CREATE INDEX runs_held ON runs (queue, priority, held_until)
    WHERE held_until IS NOT NULL AND owner IS NULL AND wake_at IS NULL;
CREATE INDEX runs_held_of_key ON runs (queue, queue_key, priority, held_until)
    WHERE held_until IS NOT NULL AND owner IS NULL AND wake_at IS NULL;
CREATE INDEX runs_held_awaited ON runs (queue, priority, held_until)
    WHERE held_until IS NOT NULL AND owner IS NULL AND wake_at IS NULL AND awaited = 1;
-- Who is under way, who was let in when, and which children keep a parent waiting.
CREATE INDEX runs_under_way ON runs (queue, queue_key, status)
    WHERE queue <> '' AND held_until IS NULL AND status NOT IN ('completed', 'failed', 'cancelled');
CREATE INDEX runs_let_in ON runs (queue, admitted_at) WHERE admitted_at IS NOT NULL;
CREATE INDEX runs_let_in_of_key ON runs (queue, queue_key, admitted_at) WHERE admitted_at IS NOT NULL;
CREATE INDEX runs_awaited ON runs (parent)
    WHERE awaited = 1 AND status NOT IN ('completed', 'failed', 'cancelled');

-- Waits that others must find: input requests and subscriptions. `number` is the order in which they were opened.
CREATE TABLE waits (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    due INTEGER,
    body BLOB NOT NULL
);
CREATE INDEX waits_oldest ON waits (kind, at, number);
CREATE INDEX waits_named ON waits (kind, name, at, number);
CREATE INDEX waits_run ON waits (run);

-- Published events, kept for a time. AUTOINCREMENT: a position is never used twice.
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL,
    transient INTEGER NOT NULL,
    UNIQUE (source, event_id)
);
CREATE INDEX events_of_topic ON events (topic, position);
CREATE INDEX events_oldest ON events (at);

-- The limits of queues; a queue that is not here has none.
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    concurrency INTEGER,
    concurrency_per_key INTEGER,
    rate INTEGER,
    rate_per_key INTEGER,
    period INTEGER NOT NULL,
    paused INTEGER NOT NULL
);

CREATE TABLE triggers (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    workflow TEXT NOT NULL,
    spec BLOB NOT NULL,
    input BLOB NOT NULL,
    options BLOB NOT NULL,
    paused INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    next_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    sender TEXT NOT NULL
);

-- What became of each occasion of a trigger; `number` is the order in which they were recorded.
CREATE TABLE firings (
    number INTEGER PRIMARY KEY,
    trigger_name TEXT NOT NULL,
    key TEXT NOT NULL,
    occasion INTEGER NOT NULL,
    at INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    note TEXT NOT NULL,
    UNIQUE (trigger_name, key)
);
CREATE INDEX firings_newest ON firings (trigger_name, number);
