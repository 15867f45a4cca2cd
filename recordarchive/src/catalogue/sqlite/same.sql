-- Calls that look like one, and of which a person has said that they are not. The smaller id first.
CREATE TABLE apart (one BLOB NOT NULL, other BLOB NOT NULL, PRIMARY KEY (one, other)) STRICT, WITHOUT ROWID;
