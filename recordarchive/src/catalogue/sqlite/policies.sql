-- Policies of retention, each version as it was set, as JSON.
CREATE TABLE policies (
    version INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    approved_by TEXT
) STRICT;
-- What waits for a second person: at most one.
CREATE TABLE policy_proposal (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id BLOB NOT NULL,
    base INTEGER NOT NULL,
    text TEXT NOT NULL,
    preview TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_us INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX deletion_call_by_call ON deletion_call (call);
-- The last time at which the calendar was taken for right by what deletes.
CREATE TABLE calendar (one INTEGER PRIMARY KEY CHECK (one = 1), right_us INTEGER NOT NULL) STRICT;
