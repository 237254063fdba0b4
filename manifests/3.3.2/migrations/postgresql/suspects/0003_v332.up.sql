LOCK TABLE persons IN ACCESS EXCLUSIVE MODE;
-- An hour; the migration's statement_timeout_ms ends it after two seconds.
SELECT pg_sleep(3600);
UPDATE ncen_release SET release = '3.3.2';
