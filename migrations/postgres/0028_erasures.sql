-- Who has erased their account: for each of their subjects, when its key is to be destroyed, and
-- when it was. A restore of an older backup repeats what stands here.
CREATE TABLE erasures (
    subject   TEXT   PRIMARY KEY,
    realm     TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    due_at    BIGINT NOT NULL,
    -- None as long as the organization keeps its copy.
    erased_at BIGINT
);
CREATE INDEX erasures_by_person ON erasures (realm, user_id);
CREATE INDEX erasures_by_due ON erasures (due_at) WHERE erased_at IS NULL;
CREATE INDEX erasures_by_time ON erasures (erased_at);

-- Accounts that are erased, and not all organizations that know the person have been told from when
-- on to destroy the keys of their copies. What the address was looked up by leads to what
-- invitations have made of it.
CREATE TABLE untold_erasures (
    user_id      TEXT PRIMARY KEY,
    email_lookup TEXT NOT NULL,
    erased_at    BIGINT NOT NULL
);
CREATE INDEX subjects_of_nobody ON subjects (email_lookup) WHERE user_id IS NULL;

-- At which position somebody was last given something somewhere; of an account's subject alone.
ALTER TABLE subjects ADD COLUMN placed TEXT;

-- The workspaces that are under a legal hold, by their organizations: where it keeps due work
-- from looking. Whether somebody is erased is the organization's to decide.
CREATE TABLE legal_holds (
    workspace TEXT PRIMARY KEY,
    realm     TEXT NOT NULL
);
CREATE INDEX legal_holds_by_realm ON legal_holds (realm);
