-- When an API key was last used, in minutes since 1970. Kept beside the log: nothing is
-- decided by it.
CREATE TABLE key_activity (
    key              TEXT    PRIMARY KEY,
    last_used_minute INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
