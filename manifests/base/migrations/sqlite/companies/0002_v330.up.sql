-- 3.3.0: the trade name of dealers in cultural artefacts, and an index for their search.
ALTER TABLE companies ADD COLUMN trade_name text;
CREATE INDEX companies_name ON companies (name);

-- Restore what an earlier rollback parked.
CREATE TABLE IF NOT EXISTS ncen_kept__companies (company_ref text PRIMARY KEY, trade_name text);
UPDATE companies SET trade_name = kept.trade_name
    FROM ncen_kept__companies kept WHERE kept.company_ref = companies.company_ref;
DROP TABLE ncen_kept__companies;

UPDATE ncen_release SET release = '3.3.0';
