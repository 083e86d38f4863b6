-- The rebuild of projections that is under way, or asked for: one at a time. One row, like the
-- head of the log.
CREATE TABLE rebuild (
    singleton    BIGINT PRIMARY KEY CHECK (singleton = 1),
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
    beats        BIGINT NOT NULL,
    -- Up to where everything is on the disk; rows of documents may be further, each as it says.
    documents_at BIGINT NOT NULL,
    audit_at     BIGINT NOT NULL,
    -- For those who look on.
    position     BIGINT NOT NULL,
    head         BIGINT NOT NULL,
    per_second   BIGINT NOT NULL,
    -- How fast it may go; null: as it can.
    per_second_max     BIGINT,
    commit_latency_max BIGINT
);

INSERT INTO rebuild (singleton, state, id, outcome, names, generations, owner, beats,
                     documents_at, audit_at, position, head, per_second)
VALUES (1, 'idle', '', '', '', '{}', '', 0, 0, 0, 0, 0, 0);
