-- Whether this store may be written at all: not while it is being filled from another one, not once
-- it was moved away, and not as a backup. log_head.format keeps writers out; this says why.
CREATE TABLE seals (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    state     TEXT    NOT NULL CHECK (state IN ('arriving', 'arrived', 'moved', 'backup')),
    -- Which transfer it was: the same at both of its ends.
    transfer  TEXT    NOT NULL,
    -- The other end, for people.
    other     TEXT    NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
