-- PostgreSQL reads the expressions of a table's CHECKs anew for every statement that writes to
-- it, which was a fifth of an append of one event. What they said holds by the types of the one
-- writer, and `crewlog verify` finds what does not: sequences, chains and lengths are in what it
-- recomputes.
ALTER TABLE events
    DROP CONSTRAINT events_sequence_check,
    DROP CONSTRAINT events_position_check,
    DROP CONSTRAINT events_scope_sequence_check,
    DROP CONSTRAINT events_check,
    DROP CONSTRAINT events_salt_check,
    DROP CONSTRAINT events_leaf_check;
ALTER TABLE log_head
    DROP CONSTRAINT log_head_singleton_check,
    DROP CONSTRAINT log_head_position_check,
    DROP CONSTRAINT log_head_epoch_check;
