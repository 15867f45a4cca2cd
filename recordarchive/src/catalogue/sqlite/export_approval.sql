-- Exports that take a second person: who decided, and when.
ALTER TABLE export ADD COLUMN decided_by TEXT;
ALTER TABLE export ADD COLUMN decided_us INTEGER;
CREATE INDEX export_waiting ON export (key) WHERE state = 'waiting';
