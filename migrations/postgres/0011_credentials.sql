-- Credentials of integrations, and what signs for webhook endpoints: each sealed under a key of
-- its own (in subject_keys), which goes with it.
CREATE TABLE credentials (
    credential  TEXT   PRIMARY KEY,
    workspace   TEXT   NOT NULL,
    crew        TEXT   NOT NULL,
    connection  TEXT   NOT NULL,
    key_version BIGINT NOT NULL,
    sealed      BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL,
    -- Replaced, and good until then.
    expires_at  BIGINT
);
CREATE INDEX credentials_by_connection ON credentials (connection);
CREATE INDEX credentials_by_crew ON credentials (crew);
CREATE INDEX credentials_by_workspace ON credentials (workspace);
CREATE INDEX credentials_by_end ON credentials (expires_at) WHERE expires_at IS NOT NULL;

-- What was freed, and rests: due work deletes it when that is over.
CREATE INDEX claims_by_rest ON claims (rests_until) WHERE rests_until IS NOT NULL;
