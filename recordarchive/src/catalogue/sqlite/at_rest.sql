-- Media that the archive encrypts. An identity for each recording, wrapped for some recipients; what deletes its row shreds
-- the audio, wherever copies of it lie.
CREATE TABLE wrapping (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE recording_key (
    recording INTEGER PRIMARY KEY REFERENCES recording ON DELETE CASCADE,
    wrapped BLOB NOT NULL,
    wrapping INTEGER NOT NULL REFERENCES wrapping
) STRICT;
-- Plain files of which the archive has an encrypted copy that was checked, and that are still to be removed.
CREATE TABLE plain_copy (
    folder INTEGER NOT NULL REFERENCES folder,
    name TEXT NOT NULL,
    recording INTEGER REFERENCES recording ON DELETE SET NULL,
    PRIMARY KEY (folder, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX plain_copy_of_recording ON plain_copy (recording);
