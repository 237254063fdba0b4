ALTER TABLE persons DROP COLUMN remark_331;
UPDATE ncen_release SET release = '3.3.0';
