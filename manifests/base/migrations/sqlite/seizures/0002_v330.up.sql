-- 3.3.0: CITES offence classes re-mapped, cultural artefacts. The codes are invented.
CREATE TABLE ref_cites_offence (
    code text PRIMARY KEY,
    title_en text NOT NULL,
    title_fr text NOT NULL
);
INSERT INTO ref_cites_offence VALUES
    ('LIVE-I', 'Live animals, Appendix I', 'Animaux vivants, Annexe I'),
    ('LIVE-II', 'Live animals, Appendix II', 'Animaux vivants, Annexe II'),
    ('IVORY', 'Ivory', 'Ivoire'),
    ('TIMBER', 'Timber', 'Bois'),
    ('PLANT', 'Plants', 'Plantes'),
    ('SKIN', 'Skins, leather and curios', 'Peaux, cuir et objets de curiosité'),
    ('MEDIC', 'Medicine', 'Médecine'),
    ('ONLINE', 'Trade on the Internet', 'Commerce sur Internet');

-- Old class to new class. C10 has no target: an officer has to decide, case by case.
CREATE TABLE ref_cites_map (
    old_code text PRIMARY KEY REFERENCES ref_cites_class,
    new_code text REFERENCES ref_cites_offence
);
INSERT INTO ref_cites_map VALUES
    ('C01', 'LIVE-I'), ('C02', 'LIVE-II'), ('C03', 'IVORY'), ('C04', 'IVORY'), ('C05', 'TIMBER'),
    ('C06', 'PLANT'), ('C07', 'SKIN'), ('C08', 'MEDIC'), ('C09', 'SKIN'), ('C10', NULL);

-- The old class stays beside the new one, because two old ones may have become one.
ALTER TABLE offences RENAME COLUMN cites_class TO cites_class_former;
ALTER TABLE offences ADD COLUMN cites_offence text REFERENCES ref_cites_offence;
UPDATE offences SET cites_offence =
    (SELECT new_code FROM ref_cites_map WHERE old_code = cites_class_former)
    WHERE cites_class_former IS NOT NULL;
CREATE INDEX offences_cites_offence ON offences (cites_offence);

INSERT INTO ref_offence_category VALUES
    ('CULT', 'Cultural artefacts', 'Biens culturels');
CREATE TABLE cultural_objects (
    id integer PRIMARY KEY AUTOINCREMENT,
    case_ref text NOT NULL REFERENCES cases,
    object_type text NOT NULL,
    period text,
    provenance text,
    reported_to text
);
CREATE INDEX cultural_objects_case ON cultural_objects (case_ref);

-- Restore what an earlier rollback parked.
CREATE TABLE IF NOT EXISTS ncen_kept__offences (
    id integer PRIMARY KEY, category_code text, cites_class text, cites_offence text
);
CREATE TABLE IF NOT EXISTS ncen_kept__cultural_objects (
    id integer PRIMARY KEY, case_ref text NOT NULL, object_type text NOT NULL, period text,
    provenance text, reported_to text
);
UPDATE offences SET category_code = kept.category_code
    FROM ncen_kept__offences kept
    WHERE kept.id = offences.id AND kept.category_code IS NOT NULL
    AND offences.category_code = 'OTH';
-- Not where an officer chose another old class in the meantime.
UPDATE offences SET cites_offence = kept.cites_offence
    FROM ncen_kept__offences kept
    WHERE kept.id = offences.id AND kept.cites_offence IS NOT NULL
    AND offences.cites_class_former IS kept.cites_class;
INSERT INTO cultural_objects
    SELECT kept.id, kept.case_ref, kept.object_type, kept.period, kept.provenance,
        kept.reported_to
    FROM ncen_kept__cultural_objects kept
    WHERE EXISTS (SELECT 1 FROM cases WHERE cases.case_ref = kept.case_ref);
DROP TABLE ncen_kept__offences;
DELETE FROM ncen_kept__cultural_objects WHERE id IN (SELECT id FROM cultural_objects);

UPDATE ncen_release SET release = '3.3.0';
