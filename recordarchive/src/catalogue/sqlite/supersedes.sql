-- A note stays as it was written; another one may be in its place, once.
ALTER TABLE note ADD COLUMN supersedes BLOB;
CREATE UNIQUE INDEX note_by_superseded ON note (supersedes) WHERE supersedes IS NOT NULL;
