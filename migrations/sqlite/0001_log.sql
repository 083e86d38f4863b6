-- The log, and what is kept beside it. The same tables as migrations/postgres, in the
-- types of SQLite: see docs/ARCHITECTURE.md for what each is for.

-- One row: where the log ends. Every append compares it and moves it.
CREATE TABLE log_head (
    singleton   INTEGER PRIMARY KEY CHECK (singleton = 1),
    position    INTEGER NOT NULL CHECK (position >= 0),
    epoch       INTEGER NOT NULL CHECK (epoch >= 0),
    recorded_at INTEGER NOT NULL,
    frontier    BLOB    NOT NULL,
    last_batch  TEXT,
    -- The lowest format of a writer that may write.
    format      INTEGER NOT NULL
) STRICT;

INSERT INTO log_head (singleton, position, epoch, recorded_at, frontier, last_batch, format)
VALUES (1, 0, 0, 0, x'', NULL, 1);

-- The first seven columns are those of cqrs-es, so that its repositories read this table.
CREATE TABLE events (
    aggregate_type TEXT    NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    sequence       INTEGER NOT NULL CHECK (sequence >= 1),
    event_type     TEXT    NOT NULL,
    event_version  TEXT    NOT NULL,
    payload        TEXT    NOT NULL,
    metadata       TEXT    NOT NULL,
    position       INTEGER PRIMARY KEY CHECK (position >= 1),
    id             TEXT    NOT NULL,
    recorded_at    INTEGER NOT NULL,
    batch          TEXT    NOT NULL,
    scope          TEXT    NOT NULL,
    scope_sequence INTEGER NOT NULL CHECK (scope_sequence >= 1),
    -- Null in the first entry of a scope only.
    previous       BLOB    CHECK ((previous IS NULL) = (scope_sequence = 1)),
    salt           BLOB    NOT NULL CHECK (length(salt) = 32),
    leaf           BLOB    NOT NULL CHECK (length(leaf) = 32),
    UNIQUE (aggregate_type, aggregate_id, sequence),
    UNIQUE (scope, scope_sequence)
) STRICT;
CREATE INDEX events_by_batch ON events (batch);

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are immutable: they are never changed'); END;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are immutable: they are never removed'); END;

-- INSERT OR REPLACE removes rows without asking the trigger above.
CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
WHEN NEW.position <= (SELECT MAX(position) FROM events)
  OR EXISTS (SELECT 1 FROM events
              WHERE aggregate_type = NEW.aggregate_type
                AND aggregate_id = NEW.aggregate_id AND sequence = NEW.sequence)
  OR EXISTS (SELECT 1 FROM events
              WHERE scope = NEW.scope AND scope_sequence = NEW.scope_sequence)
BEGIN SELECT RAISE(ABORT, 'events are immutable: they are never replaced'); END;

-- The columns of cqrs-es, and the version of the state's serialized form.
CREATE TABLE snapshots (
    aggregate_type   TEXT    NOT NULL,
    aggregate_id     TEXT    NOT NULL,
    last_sequence    INTEGER NOT NULL CHECK (last_sequence >= 1),
    current_snapshot INTEGER NOT NULL CHECK (current_snapshot >= 1),
    payload          TEXT    NOT NULL,
    state_version    INTEGER NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id)
) STRICT;

-- What may be held by one holder (or by one class of holders) only.
CREATE TABLE claims (
    scope       TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    holder      TEXT    NOT NULL,
    -- Freed, but not for others until then.
    rests_until INTEGER,
    PRIMARY KEY (scope, kind, value, holder)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    principal    TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    request_hmac BLOB    NOT NULL,
    status       INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    resource     TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Who is behind a sealed field: a person as one organization ('org_…') or their own
-- account ('account') knows them. Erasing empties email_lookup.
CREATE TABLE subjects (
    subject      TEXT    PRIMARY KEY,
    realm        TEXT    NOT NULL,
    user_id      TEXT,
    email_lookup TEXT,
    created_at   INTEGER NOT NULL,
    UNIQUE (realm, email_lookup)
) STRICT;
CREATE INDEX subjects_by_user ON subjects (user_id, realm);

-- Keys that seal, each wrapped under the root key.
CREATE TABLE subject_keys (
    owner       TEXT    NOT NULL,
    key_version INTEGER NOT NULL CHECK (key_version >= 1),
    wrapped     BLOB    NOT NULL,
    PRIMARY KEY (owner, key_version)
) STRICT, WITHOUT ROWID;

-- Which root key this store was made with, as a value that tells nothing of it.
CREATE TABLE root_keys (
    name  TEXT PRIMARY KEY,
    proof BLOB NOT NULL
) STRICT;

CREATE TABLE session_tokens (
    token_hash BLOB    PRIMARY KEY,
    session    TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_tokens_by_session ON session_tokens (session);
CREATE INDEX session_tokens_by_expiry ON session_tokens (expires_at);

CREATE TABLE passwords (
    user_id    TEXT    PRIMARY KEY,
    hash       TEXT    NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

-- One row for each generation of each projection; the engine makes their tables.
CREATE TABLE projections (
    name       TEXT    NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    version    INTEGER NOT NULL,
    -- How far it has folded; for the one that serves, the head.
    position   INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('serving', 'building')),
    PRIMARY KEY (name, generation)
) STRICT;
CREATE UNIQUE INDEX one_generation_serves ON projections (name) WHERE state = 'serving';
