-- Until when the requests of a workspace have been spent ahead, where several processes
-- serve; it is worth nothing after a crash.
CREATE UNLOGGED TABLE request_rates (
    workspace   TEXT PRIMARY KEY,
    spent_until BIGINT NOT NULL
);

-- Usage, as it is sent: never changed, never removed.
CREATE TABLE usage_records (
    workspace TEXT COLLATE "C" NOT NULL,
    id        TEXT COLLATE "C" NOT NULL,
    month     TEXT COLLATE "C" NOT NULL,
    crew      TEXT COLLATE "C" NOT NULL,
    meter     TEXT COLLATE "C" NOT NULL,
    quantity  BIGINT NOT NULL CHECK (quantity >= 0),
    at        BIGINT NOT NULL,
    PRIMARY KEY (workspace, id)
);

-- What a statement is recomputed from, without reading the records themselves.
CREATE INDEX usage_records_by_month
    ON usage_records (workspace, month, crew, meter, quantity);

-- The months that have records, and how far they are. Whoever adds records holds the row, and
-- so does whoever closes the month: no record comes into a closed one.
CREATE TABLE usage_months (
    workspace    TEXT COLLATE "C" NOT NULL,
    month        TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C" NOT NULL,
    closes_at    BIGINT NOT NULL,
    closed_at    BIGINT,
    stated_at    BIGINT,
    PRIMARY KEY (workspace, month)
);

CREATE INDEX usage_months_due ON usage_months (closes_at) WHERE stated_at IS NULL;
CREATE INDEX usage_months_by_organization ON usage_months (organization, month, workspace);

-- Sums of the records, kept by the triggers below: of each crew, and of the workspace, where
-- `crew` is empty. The amount is there once the month has its statement.
CREATE TABLE usage_totals (
    workspace    TEXT COLLATE "C" NOT NULL,
    month        TEXT COLLATE "C" NOT NULL,
    crew         TEXT COLLATE "C" NOT NULL,
    meter        TEXT COLLATE "C" NOT NULL,
    quantity     BIGINT NOT NULL,
    records      BIGINT NOT NULL,
    currency     TEXT,
    amount_minor BIGINT,
    PRIMARY KEY (workspace, month, crew, meter)
);

CREATE FUNCTION usage_records_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1
                 FROM (SELECT DISTINCT workspace, month FROM added) AS touched
                 JOIN usage_months m ON m.workspace = touched.workspace AND m.month = touched.month
                WHERE m.closed_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the month is closed';
    END IF;
    INSERT INTO usage_totals (workspace, month, crew, meter, quantity, records)
    SELECT workspace, month, crew, meter, SUM(quantity), COUNT(*)
      FROM (SELECT workspace, month, crew, meter, quantity FROM added
             UNION ALL
            SELECT workspace, month, '', meter, quantity FROM added) AS counted
     GROUP BY workspace, month, crew, meter
        ON CONFLICT (workspace, month, crew, meter) DO UPDATE
       SET quantity = usage_totals.quantity + excluded.quantity,
           records = usage_totals.records + excluded.records;
    RETURN NULL;
END $$;

CREATE TRIGGER usage_records_added AFTER INSERT ON usage_records
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION usage_records_added();

CREATE FUNCTION usage_records_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'usage records are never changed or removed';
END $$;

CREATE TRIGGER usage_records_stay BEFORE UPDATE OR DELETE ON usage_records
    FOR EACH ROW EXECUTE FUNCTION usage_records_stay();
CREATE TRIGGER usage_records_are_not_truncated BEFORE TRUNCATE ON usage_records
    FOR EACH STATEMENT EXECUTE FUNCTION usage_records_stay();
