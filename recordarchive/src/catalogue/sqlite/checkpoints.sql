-- Every file that was sealed, in the order of being taken in. A file whose audio has another hash than before is sealed anew.
CREATE TABLE sealed (seq INTEGER PRIMARY KEY, sha256 BLOB NOT NULL) STRICT;
ALTER TABLE segment ADD COLUMN sealed INTEGER;
UPDATE segment SET sealed = ordered.seq
    FROM (SELECT recording, number, row_number() OVER (ORDER BY recording, number) AS seq FROM segment) AS ordered
    WHERE segment.recording = ordered.recording AND segment.number = ordered.number;
INSERT INTO sealed (seq, sha256) SELECT sealed, sha256 FROM segment;
CREATE TRIGGER sealed_stays BEFORE UPDATE ON sealed BEGIN SELECT RAISE (ABORT, 'a seal is not changed'); END;
CREATE TRIGGER sealed_remains BEFORE DELETE ON sealed BEGIN SELECT RAISE (ABORT, 'a seal is not taken off'); END;

-- Signed checkpoints of the audit log.
CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, text TEXT NOT NULL, signature TEXT NOT NULL) STRICT;
