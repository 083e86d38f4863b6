-- Until when the requests of a workspace have been spent ahead, where several processes
-- serve; it is worth nothing after a crash.
CREATE TABLE request_rates (
    workspace   TEXT PRIMARY KEY NOT NULL,
    spent_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Usage, as it is sent: never changed, never removed.
CREATE TABLE usage_records (
    workspace TEXT NOT NULL,
    id        TEXT NOT NULL,
    month     TEXT NOT NULL,
    crew      TEXT NOT NULL,
    meter     TEXT NOT NULL,
    quantity  INTEGER NOT NULL CHECK (quantity >= 0),
    at        INTEGER NOT NULL,
    PRIMARY KEY (workspace, id)
) STRICT, WITHOUT ROWID;

-- What a statement is recomputed from, without reading the records themselves.
CREATE INDEX usage_records_by_month
    ON usage_records (workspace, month, crew, meter, quantity);

-- The months that have records, and how far they are. Whoever adds records holds the row, and
-- so does whoever closes the month: no record comes into a closed one.
CREATE TABLE usage_months (
    workspace    TEXT NOT NULL,
    month        TEXT NOT NULL,
    organization TEXT NOT NULL,
    closes_at    INTEGER NOT NULL,
    closed_at    INTEGER,
    stated_at    INTEGER,
    PRIMARY KEY (workspace, month)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_months_due ON usage_months (closes_at) WHERE stated_at IS NULL;
CREATE INDEX usage_months_by_organization ON usage_months (organization, month, workspace);

-- Sums of the records, kept by the triggers below: of each crew, and of the workspace, where
-- `crew` is empty. The amount is there once the month has its statement.
CREATE TABLE usage_totals (
    workspace    TEXT NOT NULL,
    month        TEXT NOT NULL,
    crew         TEXT NOT NULL,
    meter        TEXT NOT NULL,
    quantity     INTEGER NOT NULL,
    records      INTEGER NOT NULL,
    currency     TEXT,
    amount_minor INTEGER,
    PRIMARY KEY (workspace, month, crew, meter)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER usage_records_added AFTER INSERT ON usage_records
BEGIN
    SELECT RAISE(ABORT, 'the month is closed')
     WHERE EXISTS (SELECT 1
                     FROM usage_months
                    WHERE workspace = NEW.workspace AND month = NEW.month
                      AND closed_at IS NOT NULL);
    INSERT INTO usage_totals (workspace, month, crew, meter, quantity, records)
    VALUES (NEW.workspace, NEW.month, NEW.crew, NEW.meter, NEW.quantity, 1),
           (NEW.workspace, NEW.month, '', NEW.meter, NEW.quantity, 1)
        ON CONFLICT (workspace, month, crew, meter) DO UPDATE
       SET quantity = usage_totals.quantity + excluded.quantity,
           records = usage_totals.records + excluded.records;
END;

CREATE TRIGGER usage_records_are_not_changed BEFORE UPDATE ON usage_records
BEGIN
    SELECT RAISE(ABORT, 'usage records are never changed');
END;

CREATE TRIGGER usage_records_are_not_removed BEFORE DELETE ON usage_records
BEGIN
    SELECT RAISE(ABORT, 'usage records are never removed');
END;
