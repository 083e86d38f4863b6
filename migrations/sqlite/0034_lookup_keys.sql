-- The key that values are looked up by, wrapped under the root key, once that was rotated. Before,
-- there is none here: the root key gives it.
CREATE TABLE lookup_keys (
    version INTEGER PRIMARY KEY CHECK (version >= 1),
    wrapped BLOB    NOT NULL
) STRICT;
