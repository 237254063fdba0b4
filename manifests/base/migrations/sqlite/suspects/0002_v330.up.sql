-- 3.3.0: better person search with its index, and the name in the person's own script.
ALTER TABLE persons ADD COLUMN own_script_name text;
ALTER TABLE persons ADD COLUMN search_name text GENERATED ALWAYS AS
    (lower(family_name || ' ' || coalesce(given_names, ''))) VIRTUAL;
CREATE INDEX persons_search_name ON persons (search_name);
ALTER TABLE aliases ADD COLUMN search_alias text GENERATED ALWAYS AS (lower(alias)) VIRTUAL;
CREATE INDEX aliases_search_alias ON aliases (search_alias);

-- Restore what an earlier rollback parked.
CREATE TABLE IF NOT EXISTS ncen_kept__persons (person_ref text PRIMARY KEY, own_script_name text);
UPDATE persons SET own_script_name = kept.own_script_name
    FROM ncen_kept__persons kept WHERE kept.person_ref = persons.person_ref;
DROP TABLE ncen_kept__persons;

UPDATE ncen_release SET release = '3.3.0';
