-- People of a provider: each is an account by issuer and subject, under any name.
CREATE TABLE identity (
    account INTEGER PRIMARY KEY REFERENCES account,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    display TEXT NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;
-- Log-ins that were used, for as long as they could come again.
CREATE TABLE used_login (state_hash BLOB PRIMARY KEY, until_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
