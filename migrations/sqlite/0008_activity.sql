-- A crew's activity: what it did, as it was sent. Never an event, and nothing is decided by it.
-- What a record says is sealed under the workspace's key; what it is filtered by is open.
CREATE TABLE activity (
    workspace   TEXT    NOT NULL,
    crew        TEXT    NOT NULL,
    -- The sender's; the same record sent again is the same.
    id          TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    level       TEXT,
    key_version INTEGER NOT NULL CHECK (key_version >= 1),
    sealed      BLOB    NOT NULL,
    PRIMARY KEY (workspace, crew, id)
) STRICT;
CREATE INDEX activity_by_crew ON activity (crew, at, id);
CREATE INDEX activity_by_time ON activity (at);

-- Workspaces that were deleted, until nothing of their activity is left.
CREATE TABLE activity_ended (
    workspace TEXT    PRIMARY KEY,
    ended_at  INTEGER NOT NULL
) STRICT;
