-- Which event set a password: whoever proved an older one has proved nothing. The first is
-- set by the first event of an account.
ALTER TABLE passwords ADD COLUMN sequence BIGINT NOT NULL DEFAULT 1;
