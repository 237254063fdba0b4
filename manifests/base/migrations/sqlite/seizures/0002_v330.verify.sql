-- Every statement must return no row.
SELECT 'release', release FROM ncen_release WHERE release <> '3.3.0';
SELECT 'old class that should have been mapped', offences.id
    FROM offences JOIN ref_cites_map ON old_code = cites_class_former
    WHERE new_code IS NOT NULL AND cites_offence IS NULL LIMIT 10;
SELECT 'offence without a case', offences.id
    FROM offences LEFT JOIN cases USING (case_ref) WHERE cases.case_ref IS NULL LIMIT 10;
SELECT 'category is missing' WHERE NOT EXISTS
    (SELECT 1 FROM ref_offence_category WHERE code = 'CULT');
