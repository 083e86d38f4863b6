-- The key that values are looked up by, wrapped under the root key, once that was rotated. Before,
-- there is none here: the root key gives it.
CREATE TABLE lookup_keys (
    version BIGINT PRIMARY KEY CHECK (version >= 1),
    wrapped BYTEA  NOT NULL
);
