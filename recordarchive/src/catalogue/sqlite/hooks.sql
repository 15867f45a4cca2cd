-- How far each webhook has been told: the key of a recording.
CREATE TABLE hook (url TEXT PRIMARY KEY, place INTEGER NOT NULL) STRICT, WITHOUT ROWID;
