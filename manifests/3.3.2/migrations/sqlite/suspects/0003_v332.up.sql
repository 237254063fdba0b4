-- Hours; the migration's statement_timeout_ms ends it after two seconds.
CREATE TEMP TABLE waited AS
    WITH RECURSIVE wait (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM wait WHERE n < 1000000000000)
    SELECT count(*) AS n FROM wait;
DROP TABLE waited;
UPDATE ncen_release SET release = '3.3.2';
