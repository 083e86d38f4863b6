-- Access as the first events of a stream left it, every so many of them, to fold on from. It only
-- saves time: what is not here, or not signed by the installation's own key, is folded anew.
CREATE TABLE access_snapshots (
    aggregate_type TEXT    NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    fold_version   INTEGER NOT NULL,
    position       INTEGER NOT NULL CHECK (position >= 1),
    sequence       INTEGER NOT NULL CHECK (sequence >= 1),
    payload        TEXT    NOT NULL,
    hmac           BLOB    NOT NULL CHECK (length(hmac) = 32),
    PRIMARY KEY (aggregate_type, aggregate_id, fold_version, position)
) STRICT;
