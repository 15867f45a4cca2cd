-- Second factors: the secret, and the step of the last code that was used.
CREATE TABLE totp (
    account INTEGER PRIMARY KEY REFERENCES account,
    secret BLOB NOT NULL,
    step INTEGER NOT NULL
) STRICT;
