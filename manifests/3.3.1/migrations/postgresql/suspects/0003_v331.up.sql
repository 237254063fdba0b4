ALTER TABLE persons ADD COLUMN remark_331 text;
UPDATE ncen_release SET release = '3.3.1';
