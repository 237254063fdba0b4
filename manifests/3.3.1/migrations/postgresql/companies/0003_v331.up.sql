ALTER TABLE companies ADD COLUMN remark_331 text;
-- The mistake: the row is there already, so its key is refused.
INSERT INTO ncen_release VALUES (1, '3.3.1');
UPDATE ncen_release SET release = '3.3.1';
