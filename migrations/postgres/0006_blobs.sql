-- Contents, once a workspace however many crews and versions have them. Sealed under the
-- workspace's key; events name them by their digest. One is staged before the append that names
-- it, and pinned by it; what nothing has pinned is collected after a while.
CREATE TABLE blobs (
    workspace   TEXT    NOT NULL,
    -- SHA-256 of the content.
    digest      BYTEA   NOT NULL CHECK (length(digest) = 32),
    -- Of the content, in bytes.
    size        BIGINT  NOT NULL CHECK (size >= 0),
    key_version BIGINT  NOT NULL CHECK (key_version >= 1),
    sealed      BYTEA   NOT NULL,
    staged_at   BIGINT  NOT NULL,
    pinned      BIGINT  NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    PRIMARY KEY (workspace, digest)
);
CREATE INDEX blobs_by_staging ON blobs (staged_at) WHERE pinned = 0;
