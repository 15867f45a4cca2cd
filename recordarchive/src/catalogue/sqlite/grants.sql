-- A role may be for the calls of some sites, or of a time.
ALTER TABLE role ADD COLUMN within TEXT NOT NULL DEFAULT '{}';
