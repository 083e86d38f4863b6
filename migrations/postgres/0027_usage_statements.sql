-- The records of a month in order of their ids, whole: what a statement is recounted from.
DROP INDEX usage_records_by_month;
CREATE INDEX usage_records_by_month
    ON usage_records (workspace, month, id) INCLUDE (crew, meter, quantity, at);

-- A meter comes to so much in a month, and there are so many of them, that a statement of it is
-- always kept exactly. Whoever adds records holds the month's row, so that nobody else counts.
ALTER TABLE usage_totals
    ADD CONSTRAINT usage_totals_can_be_stated CHECK (quantity BETWEEN 0 AND 1000000000000);

CREATE FUNCTION usage_totals_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT COUNT(*)
          FROM usage_totals
         WHERE workspace = NEW.workspace AND month = NEW.month AND crew = '') > 100 THEN
        RAISE EXCEPTION 'too many meters';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER usage_totals_added AFTER INSERT ON usage_totals
    FOR EACH ROW WHEN (NEW.crew = '') EXECUTE FUNCTION usage_totals_added();
