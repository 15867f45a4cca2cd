-- Exports: which calls, why, and what became of the package. The package itself is a file.

CREATE TABLE export (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    account BLOB NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    calls TEXT NOT NULL,
    originals INTEGER NOT NULL,
    mask_numbers INTEGER NOT NULL,
    asked_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    state TEXT NOT NULL,
    octets INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT NOT NULL DEFAULT '',
    problem TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX export_by_account ON export (account, key);
CREATE INDEX export_to_do ON export (key) WHERE state IN ('running', 'ready');
-- What was done with a call is found for its package.
CREATE INDEX audit_by_object ON audit (object, seq) WHERE object != '';
