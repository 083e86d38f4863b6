-- Who holds a claim, so that all that a crew or a workspace holds can be freed at once.
ALTER TABLE claims ADD COLUMN workspace TEXT;
ALTER TABLE claims ADD COLUMN crew TEXT;
ALTER TABLE claims ADD COLUMN environment TEXT;
CREATE INDEX claims_by_holder ON claims (holder);
CREATE INDEX claims_by_crew ON claims (crew);
CREATE INDEX claims_by_workspace ON claims (workspace);
