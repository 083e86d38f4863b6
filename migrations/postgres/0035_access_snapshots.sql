-- Access as the first events of a stream left it, every so many of them, to fold on from. It only
-- saves time: what is not here, or not signed by the installation's own key, is folded anew.
CREATE TABLE access_snapshots (
    aggregate_type TEXT   COLLATE "C" NOT NULL,
    aggregate_id   TEXT   COLLATE "C" NOT NULL,
    fold_version   BIGINT NOT NULL,
    position       BIGINT NOT NULL CHECK (position >= 1),
    sequence       BIGINT NOT NULL CHECK (sequence >= 1),
    payload        TEXT   NOT NULL,
    hmac           BYTEA  NOT NULL CHECK (octet_length(hmac) = 32),
    PRIMARY KEY (aggregate_type, aggregate_id, fold_version, position)
);
