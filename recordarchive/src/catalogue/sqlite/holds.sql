-- Holds, and the calls that they keep. A hold ends when a second person releases it; its rows stay.
CREATE TABLE hold (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    reference TEXT NOT NULL,
    reason TEXT NOT NULL,
    placed_by TEXT NOT NULL,
    placed_us INTEGER NOT NULL,
    asked_by TEXT,
    asked_us INTEGER,
    asked_reason TEXT,
    released_by TEXT,
    released_us INTEGER,
    released_reason TEXT
) STRICT;
CREATE TABLE held (
    hold INTEGER NOT NULL REFERENCES hold,
    call INTEGER NOT NULL REFERENCES call ON UPDATE CASCADE,
    active INTEGER NOT NULL,
    PRIMARY KEY (hold, call)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_by_call ON held (call) WHERE active = 1;
CREATE INDEX held_of_call ON held (call, hold);

-- Calls whose sidecars don't have their holds yet.
CREATE TABLE hold_unwritten (
    call INTEGER PRIMARY KEY REFERENCES call ON DELETE CASCADE ON UPDATE CASCADE,
    version INTEGER NOT NULL,
    due_us INTEGER NOT NULL
) STRICT;
CREATE INDEX hold_unwritten_by_due ON hold_unwritten (due_us);
