-- The catalogue in SQLite. Times are microseconds since the Unix epoch, in UTC.
--
-- The key of a call is its start in microseconds, moved on until no other call has it. So every index that ends in the key is
-- in the order of time, and a page of a list is read from where the one before ended.

CREATE TABLE device (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE site (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE folder (key INTEGER PRIMARY KEY, root TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (root, path)) STRICT;

CREATE TABLE call (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    external_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES device,
    site INTEGER NOT NULL REFERENCES site,
    extension TEXT NOT NULL,
    gap_ms INTEGER NOT NULL,
    end_reason TEXT NOT NULL,
    codec TEXT NOT NULL
) STRICT;
CREATE INDEX call_by_external_id ON call (external_id) WHERE external_id != '';
CREATE INDEX call_by_extension ON call (extension, key);
CREATE INDEX call_by_device ON call (device, key);
CREATE INDEX call_with_gap ON call (key) WHERE gap_ms > 0;
CREATE INDEX call_empty ON call (key) WHERE duration_ms = 0;

-- Sides of a call: 0 remote, 1 local. What has no digits has no keys.
CREATE TABLE party (
    call INTEGER NOT NULL REFERENCES call ON DELETE CASCADE ON UPDATE CASCADE,
    role INTEGER NOT NULL,
    number TEXT NOT NULL,
    digits TEXT NOT NULL,
    name TEXT NOT NULL,
    tail4 INTEGER, tail7 INTEGER, head3 INTEGER, head6 INTEGER,
    PRIMARY KEY (call, role)
) STRICT, WITHOUT ROWID;
CREATE INDEX party_by_tail4 ON party (tail4, call) WHERE tail4 IS NOT NULL;
CREATE INDEX party_by_tail7 ON party (tail7, call) WHERE tail7 IS NOT NULL;
CREATE INDEX party_by_head3 ON party (head3, call) WHERE head3 IS NOT NULL;
CREATE INDEX party_by_head6 ON party (head6, call) WHERE head6 IS NOT NULL;

-- Words of names, notes and tags; `rowid` is the call's key. `=e201` stands for the extension.
CREATE VIRTUAL TABLE word USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, prefix = '2 3', tokenize = "unicode61 tokenchars '='"
);

CREATE TABLE recording (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    call INTEGER NOT NULL REFERENCES call ON UPDATE CASCADE,
    device INTEGER NOT NULL REFERENCES device,
    recording TEXT NOT NULL,
    source TEXT NOT NULL,
    codec TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    encrypted INTEGER NOT NULL,
    UNIQUE (device, recording)
) STRICT;
CREATE INDEX recording_by_call ON recording (call);

CREATE TABLE segment (
    recording INTEGER NOT NULL REFERENCES recording ON DELETE CASCADE,
    number INTEGER NOT NULL,
    folder INTEGER NOT NULL REFERENCES folder,
    name TEXT NOT NULL,
    octets INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    sidecar_ms INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    audio_octets INTEGER NOT NULL,
    is_plain INTEGER NOT NULL,
    gap_ms INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    end_reason TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    missing INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (recording, number),
    UNIQUE (folder, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX segment_missing ON segment (folder) WHERE missing = 1;

-- Files that are not taken: broken, or the same as another one. They are looked at again when they change.
CREATE TABLE aside (
    folder INTEGER NOT NULL REFERENCES folder,
    name TEXT NOT NULL,
    octets INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    sidecar_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    PRIMARY KEY (folder, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX aside_by_time ON aside (since_us) WHERE reason != '';

CREATE TABLE tag (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE tagged (
    tag INTEGER NOT NULL REFERENCES tag,
    call INTEGER NOT NULL REFERENCES call ON UPDATE CASCADE,
    PRIMARY KEY (tag, call)
) STRICT, WITHOUT ROWID;
CREATE INDEX tagged_by_call ON tagged (call);

CREATE TABLE note (
    call INTEGER NOT NULL REFERENCES call ON UPDATE CASCADE,
    id BLOB NOT NULL UNIQUE,
    at_ms INTEGER,
    text TEXT NOT NULL,
    by TEXT NOT NULL,
    written_us INTEGER NOT NULL,
    PRIMARY KEY (call, written_us, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    password TEXT,
    disabled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE role (
    account INTEGER NOT NULL REFERENCES account,
    role TEXT NOT NULL,
    uses TEXT NOT NULL,
    expires_us INTEGER
) STRICT;
CREATE INDEX role_by_account ON role (account);
-- Who has or had an extension at some time.
CREATE TABLE extension (
    extension TEXT NOT NULL, account INTEGER NOT NULL REFERENCES account, PRIMARY KEY (extension, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE session (
    key_hash BLOB PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account,
    began_us INTEGER NOT NULL,
    used_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE token (
    key_hash BLOB PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE setup (one INTEGER PRIMARY KEY CHECK (one = 1), key_hash BLOB NOT NULL, until_us INTEGER NOT NULL) STRICT;

-- One chain: an entry has one number and one predecessor, and neither twice.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    result TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BLOB NOT NULL UNIQUE,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is not shortened'); END;
