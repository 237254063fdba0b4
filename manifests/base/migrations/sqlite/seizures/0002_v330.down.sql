-- Rollback to 3.2.4, keeping every record. What the old schema cannot hold is parked in tables named ncen_kept__*.
CREATE TABLE ncen_kept__offences (
    id integer PRIMARY KEY, category_code text, cites_class text, cites_offence text
);

-- An old class for what was entered under 3.3.0: the first that leads to the new one.
UPDATE offences SET cites_class_former =
    (SELECT min(old_code) FROM ref_cites_map WHERE new_code = cites_offence)
    WHERE cites_class_former IS NULL AND cites_offence IS NOT NULL;
INSERT INTO ncen_kept__offences
    SELECT offences.id, CASE WHEN category_code = 'CULT' THEN 'CULT' END, cites_class_former,
        CASE WHEN cites_offence IS NOT new_code THEN cites_offence END
    FROM offences LEFT JOIN ref_cites_map ON old_code = cites_class_former
    WHERE category_code = 'CULT'
        OR (cites_offence IS NOT NULL AND cites_offence IS NOT new_code);
UPDATE offences SET category_code = 'OTH' WHERE category_code = 'CULT';
DELETE FROM ref_offence_category WHERE code = 'CULT';

INSERT INTO ncen_kept__cultural_objects SELECT * FROM cultural_objects;
DROP TABLE cultural_objects;

DROP INDEX offences_cites_offence;
ALTER TABLE offences DROP COLUMN cites_offence;
ALTER TABLE offences RENAME COLUMN cites_class_former TO cites_class;
DROP TABLE ref_cites_map;
DROP TABLE ref_cites_offence;

UPDATE ncen_release SET release = '3.2.4';
