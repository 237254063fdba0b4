-- Rollback to 3.2.4, keeping every record. What the old schema cannot hold is parked in tables named ncen_kept__*.
CREATE TABLE ncen_kept__companies (company_ref text PRIMARY KEY, trade_name text);
INSERT INTO ncen_kept__companies
    SELECT company_ref, trade_name FROM companies WHERE trade_name IS NOT NULL;
DROP INDEX companies_name;
ALTER TABLE companies DROP COLUMN trade_name;
UPDATE ncen_release SET release = '3.2.4';
