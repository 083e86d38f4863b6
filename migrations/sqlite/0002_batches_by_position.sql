-- A batch is looked up by the position that it expected, which the primary key finds.
DROP INDEX events_by_batch;
