-- The rebuild of projections that is under way, or asked for: one at a time. One row, like the
-- head of the log.
CREATE TABLE rebuild (
    singleton    INTEGER PRIMARY KEY CHECK (singleton = 1),
    state        TEXT   NOT NULL
                 CHECK (state IN ('idle', 'asked', 'running', 'swapped', 'cancelled')),
    -- Which one it is, or was last, and what became of that.
    id           TEXT   NOT NULL,
    outcome      TEXT   NOT NULL,
    -- What is rebuilt: names, and which generations they get once it has begun, as JSON.
    names        TEXT   NOT NULL,
    generations  TEXT   NOT NULL,
    -- Who works on it, and their signs of life.
    owner        TEXT   NOT NULL,
    beats        INTEGER NOT NULL,
    -- Up to where everything is on the disk; rows of documents may be further, each as it says.
    documents_at INTEGER NOT NULL,
    audit_at     INTEGER NOT NULL,
    -- For those who look on.
    position     INTEGER NOT NULL,
    head         INTEGER NOT NULL,
    per_second   INTEGER NOT NULL,
    -- How fast it may go; null: as it can.
    per_second_max     INTEGER,
    commit_latency_max INTEGER
) STRICT;

INSERT INTO rebuild (singleton, state, id, outcome, names, generations, owner, beats,
                     documents_at, audit_at, position, head, per_second)
VALUES (1, 'idle', '', '', '', '{}', '', 0, 0, 0, 0, 0, 0);
