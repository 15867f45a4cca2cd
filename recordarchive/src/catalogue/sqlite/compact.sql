-- What is told by other columns is not kept twice. Other tables refer to these ones: they are made anew while nothing enforces it.

-- Calls of a request are found by their keys; one that is gone has none any more, or that of another call.
ALTER TABLE deletion_call ADD COLUMN key INTEGER;
UPDATE deletion_call SET key = (SELECT c.key FROM call c WHERE c.id = deletion_call.call);

-- Words that many rows have. All have the empty one.
CREATE TABLE text (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO text (name) VALUES ('');
INSERT OR IGNORE INTO text (name) SELECT direction FROM call UNION SELECT codec FROM call UNION SELECT end_reason FROM call
    UNION SELECT end_reason FROM segment UNION SELECT codec FROM recording UNION SELECT source FROM recording;

-- The id of a call begins with its time, and so does its key: it is found without an index. Only calls are in one whose key is
-- of another time, since a thousand others have begun in the same millisecond.
CREATE TABLE compact (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    external_id TEXT NOT NULL,
    direction INTEGER NOT NULL REFERENCES text,
    started_us INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES device,
    site INTEGER NOT NULL REFERENCES site,
    extension TEXT NOT NULL,
    gap_ms INTEGER NOT NULL,
    end_reason INTEGER NOT NULL REFERENCES text,
    codec INTEGER NOT NULL REFERENCES text
) STRICT;
INSERT INTO compact SELECT c.key, c.id, c.external_id, (SELECT key FROM text WHERE name = c.direction), c.started_us,
    c.duration_ms, c.device, c.site, c.extension, c.gap_ms, (SELECT key FROM text WHERE name = c.end_reason),
    (SELECT key FROM text WHERE name = c.codec) FROM call c ORDER BY c.key;
DROP TABLE call;
ALTER TABLE compact RENAME TO call;
CREATE INDEX call_by_external_id ON call (external_id) WHERE external_id != '';
CREATE INDEX call_by_extension ON call (extension, key);
CREATE INDEX call_by_device ON call (device, key);
CREATE INDEX call_with_gap ON call (key) WHERE gap_ms > 0;
CREATE INDEX call_empty ON call (key) WHERE duration_ms = 0;
CREATE TABLE call_elsewhere (
    id BLOB PRIMARY KEY, call INTEGER NOT NULL REFERENCES call ON DELETE CASCADE ON UPDATE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX call_elsewhere_by_call ON call_elsewhere (call);
INSERT INTO call_elsewhere SELECT id, key FROM call
    WHERE key - (('0x' || hex(substr(id, 1, 6))) ->> '$') * 1000 NOT BETWEEN 0 AND 1999;

-- Sides of a call: 0 remote, 1 local. `number` is NULL where it is the digits, and `+` where it is a plus and the digits.
CREATE TABLE compact (
    call INTEGER NOT NULL REFERENCES call ON DELETE CASCADE ON UPDATE CASCADE,
    role INTEGER NOT NULL,
    number TEXT,
    digits TEXT NOT NULL,
    name TEXT NOT NULL,
    tail4 INTEGER AS (CASE WHEN digits != '' THEN CAST(substr(digits, -4) AS INTEGER) END) VIRTUAL,
    tail7 INTEGER AS (CASE WHEN length(digits) >= 7 THEN CAST(substr(digits, -7) AS INTEGER) END) VIRTUAL,
    head4 INTEGER AS (CASE WHEN length(digits) >= 4 THEN CAST(substr(digits, 1, 4) AS INTEGER) END) VIRTUAL,
    head6 INTEGER AS (CASE WHEN length(digits) >= 6 THEN CAST(substr(digits, 1, 6) AS INTEGER) END) VIRTUAL,
    head9 INTEGER AS (CASE WHEN length(digits) >= 9 THEN CAST(substr(digits, 1, 9) AS INTEGER) END) VIRTUAL,
    PRIMARY KEY (call, role)
) STRICT, WITHOUT ROWID;
INSERT INTO compact (call, role, number, digits, name)
    SELECT call, role, CASE number WHEN digits THEN NULL WHEN '+' || digits THEN '+' ELSE number END, digits, name FROM party
    ORDER BY call, role;
DROP TABLE party;
ALTER TABLE compact RENAME TO party;
CREATE INDEX party_by_tail4 ON party (tail4, call) WHERE tail4 IS NOT NULL;
CREATE INDEX party_by_tail7 ON party (tail7, call) WHERE tail7 IS NOT NULL;
CREATE INDEX party_by_head4 ON party (head4, call) WHERE head4 IS NOT NULL;
CREATE INDEX party_by_head6 ON party (head6, call) WHERE head6 IS NOT NULL;
CREATE INDEX party_by_head9 ON party (head9, call) WHERE head9 IS NOT NULL;

-- The hash of its audio is that of its seal.
CREATE TABLE compact (
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
    end_reason INTEGER NOT NULL REFERENCES text,
    missing INTEGER NOT NULL DEFAULT 0,
    sealed INTEGER NOT NULL REFERENCES sealed,
    PRIMARY KEY (recording, number)
) STRICT, WITHOUT ROWID;
INSERT INTO compact SELECT recording, number, folder, name, octets, modified_ms, sidecar_ms, started_us, duration_ms,
    audio_octets, is_plain, gap_ms, lost, (SELECT key FROM text t WHERE t.name = segment.end_reason), missing, sealed
    FROM segment ORDER BY recording, number;
DROP TABLE segment;
ALTER TABLE compact RENAME TO segment;
CREATE UNIQUE INDEX segment_by_name ON segment (folder, name);
CREATE INDEX segment_missing ON segment (folder) WHERE missing = 1;

-- The id of a recording begins with its time, too, and so does the key of the call that began with it. What its recorder calls
-- it is octets where those are written in hexadecimal digits.
CREATE TABLE compact (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    call INTEGER NOT NULL REFERENCES call ON UPDATE CASCADE,
    device INTEGER NOT NULL REFERENCES device,
    recording ANY NOT NULL,
    source INTEGER NOT NULL REFERENCES text,
    codec INTEGER NOT NULL REFERENCES text,
    encrypted INTEGER NOT NULL
) STRICT;
INSERT INTO compact SELECT r.key, r.id, r.call, r.device,
    CASE WHEN length(r.recording) % 2 = 0 AND r.recording != '' AND r.recording NOT GLOB '*[^0-9a-f]*' THEN unhex(r.recording)
    ELSE r.recording END,
    (SELECT key FROM text WHERE name = r.source), (SELECT key FROM text WHERE name = r.codec), r.encrypted
    FROM recording r ORDER BY r.key;
DROP TABLE recording;
ALTER TABLE compact RENAME TO recording;
CREATE UNIQUE INDEX recording_by_name ON recording (device, recording);
CREATE INDEX recording_by_call ON recording (call);
CREATE TABLE recording_elsewhere (
    id BLOB PRIMARY KEY, recording INTEGER NOT NULL REFERENCES recording ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX recording_elsewhere_by_recording ON recording_elsewhere (recording);
INSERT INTO recording_elsewhere SELECT id, key FROM recording
    WHERE call - (('0x' || hex(substr(id, 1, 6))) ->> '$') * 1000 NOT BETWEEN 0 AND 1999;
