-- Full tiles of the log's tree (C2SP tlog-tiles, height 8), made behind the head from the
-- leaves in events: hashes alone, so they can be made again. A partial tile is never kept.
CREATE TABLE tiles (
    level  BIGINT NOT NULL CHECK (level BETWEEN 0 AND 7),
    number BIGINT NOT NULL CHECK (number >= 0),
    -- What its hashes come to: one hash of a tile of the next level.
    root   BYTEA NOT NULL CHECK (length(root) = 32),
    hashes BYTEA NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (level, number)
);

-- Keys that sign checkpoints, each by its verifier in the form of C2SP signed-note.
CREATE TABLE signing_keys (
    verifier    TEXT PRIMARY KEY,
    -- The secret under the root key; none once it does not sign any more.
    wrapped     BYTEA,
    created_at  BIGINT NOT NULL,
    -- 1 for the newest, which signs until it is rotated; none for those before it.
    newest      BIGINT UNIQUE CHECK (newest = 1),
    signs_until BIGINT CHECK ((signs_until IS NULL) = (newest IS NOT NULL))
);

-- What was signed: a size of the log, and its root.
CREATE TABLE checkpoints (
    size         BIGINT PRIMARY KEY CHECK (size >= 0),
    -- C2SP tlog-checkpoint, with the signatures of this log alone.
    note         TEXT NOT NULL,
    made_at      BIGINT NOT NULL,
    published_at BIGINT
);

-- Signatures of witnesses (C2SP tlog-cosignature), verified when they came.
CREATE TABLE cosignatures (
    size     BIGINT NOT NULL REFERENCES checkpoints (size) ON DELETE CASCADE,
    -- The name and id of the witness's key.
    witness  TEXT NOT NULL,
    line     TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (size, witness)
);
