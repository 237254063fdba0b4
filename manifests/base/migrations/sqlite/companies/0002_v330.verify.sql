-- Every statement must return no row.
SELECT 'release', release FROM ncen_release WHERE release <> '3.3.0';
SELECT 'link without a company', case_ref
    FROM case_links LEFT JOIN companies USING (company_ref)
    WHERE companies.company_ref IS NULL LIMIT 10;
