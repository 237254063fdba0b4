-- Rollback to 3.2.4, keeping every record. What the old schema cannot hold is parked in ncen_kept.
CREATE SCHEMA IF NOT EXISTS ncen_kept;
CREATE TABLE ncen_kept.persons (person_ref text PRIMARY KEY, own_script_name text);
INSERT INTO ncen_kept.persons
    SELECT person_ref, own_script_name FROM persons WHERE own_script_name IS NOT NULL;
DROP INDEX aliases_search_alias;
ALTER TABLE aliases DROP COLUMN search_alias;
DROP INDEX persons_search_name;
ALTER TABLE persons DROP COLUMN search_name;
ALTER TABLE persons DROP COLUMN own_script_name;
UPDATE ncen_release SET release = '3.2.4';
