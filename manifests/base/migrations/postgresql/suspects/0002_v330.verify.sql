-- Every statement must return no row.
SELECT 'release', release FROM ncen_release WHERE release <> '3.3.0';
SELECT 'person that the search would not find', person_ref
    FROM persons WHERE search_name IS NULL LIMIT 10;
SELECT 'link without a person', case_ref
    FROM case_links LEFT JOIN persons USING (person_ref) WHERE persons.person_ref IS NULL LIMIT 10;
