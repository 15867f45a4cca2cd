-- Requests to delete calls. Their rows stay, and name calls by id, so that they outlive them.
CREATE TABLE deletion (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    state TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    decided_by TEXT,
    decided_us INTEGER,
    decided_reason TEXT
) STRICT;
CREATE TABLE deletion_call (
    deletion INTEGER NOT NULL REFERENCES deletion, call BLOB NOT NULL, PRIMARY KEY (deletion, call)
) STRICT, WITHOUT ROWID;

-- Calls that are in no list, and gone when they are due. `begun`: the intent to remove its files, from which nothing leads back.
CREATE TABLE trash (
    call INTEGER PRIMARY KEY REFERENCES call ON UPDATE CASCADE,
    deletion INTEGER NOT NULL REFERENCES deletion,
    due_us INTEGER NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX trash_by_due ON trash (due_us);
CREATE INDEX trash_by_deletion ON trash (deletion);

-- What stays of a call that is gone: when, who, why. And its recordings, which are not taken in again.
CREATE TABLE tombstone (
    call BLOB PRIMARY KEY,
    deletion INTEGER NOT NULL REFERENCES deletion,
    gone_us INTEGER NOT NULL,
    asked_by TEXT NOT NULL,
    approved_by TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE gone (
    device TEXT NOT NULL, recording TEXT NOT NULL, call BLOB NOT NULL REFERENCES tombstone, PRIMARY KEY (device, recording)
) STRICT, WITHOUT ROWID;
