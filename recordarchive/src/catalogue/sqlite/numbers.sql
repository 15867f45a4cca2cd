-- Keys of numbers by which longer beginnings are found without a scan; what another key finds, too, has none.
DROP INDEX party_by_head3;
ALTER TABLE party DROP COLUMN head3;
ALTER TABLE party ADD COLUMN head4 INTEGER;
ALTER TABLE party ADD COLUMN head9 INTEGER;
UPDATE party SET
    tail7 = CASE WHEN length(digits) >= 7 THEN tail7 END,
    head4 = CASE WHEN length(digits) >= 4 THEN CAST(substr(digits, 1, 4) AS INTEGER) END,
    head6 = CASE WHEN length(digits) >= 6 THEN head6 END,
    head9 = CASE WHEN length(digits) >= 9 THEN CAST(substr(digits, 1, 9) AS INTEGER) END
    WHERE tail4 IS NOT NULL;
CREATE INDEX party_by_head4 ON party (head4, call) WHERE head4 IS NOT NULL;
CREATE INDEX party_by_head9 ON party (head9, call) WHERE head9 IS NOT NULL;
