-- What other systems know: events, and calls as an exchange has noted them. They are linked to calls by rule.

CREATE TABLE event (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    source TEXT NOT NULL,
    external_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    from_us INTEGER NOT NULL,
    to_us INTEGER NOT NULL,
    pair INTEGER NOT NULL,
    extensions TEXT NOT NULL,
    numbers TEXT NOT NULL,
    call_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    UNIQUE (source, external_id)
) STRICT;
-- By what an event finds its calls: kind 0 an extension, 1 the end of a number, 2 a call id.
CREATE TABLE event_key (
    kind INTEGER NOT NULL,
    text TEXT NOT NULL,
    from_us INTEGER NOT NULL,
    event INTEGER NOT NULL REFERENCES event ON DELETE CASCADE,
    PRIMARY KEY (kind, text, from_us, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_key_by_event ON event_key (event);
CREATE TABLE event_call (
    call INTEGER NOT NULL REFERENCES call ON DELETE CASCADE ON UPDATE CASCADE,
    event INTEGER NOT NULL REFERENCES event ON DELETE CASCADE,
    PRIMARY KEY (call, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_call_by_event ON event_call (event, call);
