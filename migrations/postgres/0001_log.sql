-- The log, and what is kept beside it. The same tables as migrations/sqlite, in the
-- types of PostgreSQL: see docs/ARCHITECTURE.md for what each is for.

-- One row: where the log ends. Every append compares it and moves it.
CREATE TABLE log_head (
    singleton   BIGINT  PRIMARY KEY CHECK (singleton = 1),
    position    BIGINT  NOT NULL CHECK (position >= 0),
    epoch       BIGINT  NOT NULL CHECK (epoch >= 0),
    recorded_at BIGINT  NOT NULL,
    frontier    BYTEA   NOT NULL,
    last_batch  TEXT,
    -- The lowest format of a writer that may write.
    format      BIGINT  NOT NULL
) WITH (fillfactor = 50);

INSERT INTO log_head (singleton, position, epoch, recorded_at, frontier, last_batch, format)
VALUES (1, 0, 0, 0, '', NULL, 1);

-- The first seven columns are those of cqrs-es, so that its repositories read this table.
CREATE TABLE events (
    aggregate_type TEXT    NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    sequence       BIGINT  NOT NULL CHECK (sequence >= 1),
    event_type     TEXT    NOT NULL,
    event_version  TEXT    NOT NULL,
    -- Kept byte for byte, which jsonb would not.
    payload        JSON    NOT NULL,
    metadata       JSON    NOT NULL,
    position       BIGINT  PRIMARY KEY CHECK (position >= 1),
    id             TEXT    NOT NULL,
    recorded_at    BIGINT  NOT NULL,
    batch          TEXT    NOT NULL,
    scope          TEXT    NOT NULL,
    scope_sequence BIGINT  NOT NULL CHECK (scope_sequence >= 1),
    -- Null in the first entry of a scope only.
    previous       BYTEA   CHECK ((previous IS NULL) = (scope_sequence = 1)),
    salt           BYTEA   NOT NULL CHECK (length(salt) = 32),
    leaf           BYTEA   NOT NULL CHECK (length(leaf) = 32),
    UNIQUE (aggregate_type, aggregate_id, sequence),
    UNIQUE (scope, scope_sequence)
);
CREATE INDEX events_by_batch ON events (batch);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are immutable: they are never changed or removed';
END $$;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_are_never_truncated BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also where a session asks for triggers to be left out.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_changed;
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_truncated;

-- The columns of cqrs-es, and the version of the state's serialized form.
CREATE TABLE snapshots (
    aggregate_type   TEXT    NOT NULL,
    aggregate_id     TEXT    NOT NULL,
    last_sequence    BIGINT  NOT NULL CHECK (last_sequence >= 1),
    current_snapshot BIGINT  NOT NULL CHECK (current_snapshot >= 1),
    payload          JSON    NOT NULL,
    state_version    BIGINT  NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id)
);

-- What may be held by one holder (or by one class of holders) only.
CREATE TABLE claims (
    scope       TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    holder      TEXT    NOT NULL,
    -- Freed, but not for others until then.
    rests_until BIGINT,
    PRIMARY KEY (scope, kind, value, holder)
);

CREATE TABLE idempotency (
    principal    TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    request_hmac BYTEA   NOT NULL,
    status       BIGINT  NOT NULL,
    position     BIGINT  NOT NULL,
    resource     TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Who is behind a sealed field: a person as one organization ('org_…') or their own
-- account ('account') knows them. Erasing empties email_lookup.
CREATE TABLE subjects (
    subject      TEXT    PRIMARY KEY,
    realm        TEXT    NOT NULL,
    user_id      TEXT,
    email_lookup TEXT,
    created_at   BIGINT  NOT NULL,
    UNIQUE (realm, email_lookup)
);
CREATE INDEX subjects_by_user ON subjects (user_id, realm);

-- Keys that seal, each wrapped under the root key.
CREATE TABLE subject_keys (
    owner       TEXT    NOT NULL,
    key_version BIGINT  NOT NULL CHECK (key_version >= 1),
    wrapped     BYTEA   NOT NULL,
    PRIMARY KEY (owner, key_version)
);

-- Which root key this store was made with, as a value that tells nothing of it.
CREATE TABLE root_keys (
    name  TEXT PRIMARY KEY,
    proof BYTEA NOT NULL
);

CREATE TABLE session_tokens (
    token_hash BYTEA   PRIMARY KEY,
    session    TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX session_tokens_by_session ON session_tokens (session);
CREATE INDEX session_tokens_by_expiry ON session_tokens (expires_at);

CREATE TABLE passwords (
    user_id    TEXT    PRIMARY KEY,
    hash       TEXT    NOT NULL,
    changed_at BIGINT  NOT NULL
);

-- One row for each generation of each projection; the engine makes their tables.
CREATE TABLE projections (
    name       TEXT    NOT NULL,
    generation BIGINT  NOT NULL CHECK (generation >= 1),
    version    BIGINT  NOT NULL,
    -- How far it has folded; for the one that serves, the head.
    position   BIGINT  NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('serving', 'building')),
    PRIMARY KEY (name, generation)
);
CREATE UNIQUE INDEX one_generation_serves ON projections (name) WHERE state = 'serving';
