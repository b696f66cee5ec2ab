-- What node types keep for a run beside its journal. `crc` is the CRC-32 of `value`.
CREATE TABLE shelf (
    number INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    crc INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (owner, key)
);
