-- The records of a month in order of their ids, whole: what a statement is recounted from.
DROP INDEX usage_records_by_month;
CREATE INDEX usage_records_by_month
    ON usage_records (workspace, month, id, crew, meter, quantity, at);

-- A meter comes to so much in a month, and there are so many of them, that a statement of it is
-- always kept exactly.
CREATE TRIGGER usage_totals_can_be_stated_at_first BEFORE INSERT ON usage_totals
WHEN NEW.quantity > 1000000000000
BEGIN
    SELECT RAISE(ABORT, 'more than can be stated');
END;

CREATE TRIGGER usage_totals_can_be_stated BEFORE UPDATE ON usage_totals
WHEN NEW.quantity > 1000000000000
BEGIN
    SELECT RAISE(ABORT, 'more than can be stated');
END;

CREATE TRIGGER usage_totals_added AFTER INSERT ON usage_totals
WHEN NEW.crew = ''
BEGIN
    SELECT RAISE(ABORT, 'too many meters')
     WHERE (SELECT COUNT(*)
              FROM usage_totals
             WHERE workspace = NEW.workspace AND month = NEW.month AND crew = '') > 100;
END;
