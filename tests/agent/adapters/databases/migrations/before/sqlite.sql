-- Written by the agent that ran migrations through Alembic: 0001_a and 0002_b up,
-- 0002_b down and up again.
BEGIN TRANSACTION;
CREATE TABLE a (x text);
INSERT INTO "a" VALUES('100% of :name; ''quoted''');
CREATE TABLE b (y int);
CREATE TABLE ncen_updater_alembic_version (version_num varchar(100) PRIMARY KEY);
INSERT INTO "ncen_updater_alembic_version" VALUES('0002_b');
CREATE TABLE ncen_updater_ledger (seq integer PRIMARY KEY AUTOINCREMENT, id text NOT NULL, direction text NOT NULL, sha256 text NOT NULL, release text NOT NULL, change text NOT NULL, applied_at text NOT NULL);
INSERT INTO "ncen_updater_ledger" VALUES(1,'0001_a','up','4bc3bff8e3f7aa79b3e6b0e707cd9f5454c581b117682c9ba9a84108bb5216f7','2.0','abcdefgh','2026-01-01T00:00:00Z');
INSERT INTO "ncen_updater_ledger" VALUES(2,'0002_b','up','41731ea0805576b158fd6b204989ea72579f90f67a41213a3865ee18fa411caf','2.0','abcdefgh','2026-01-01T00:00:00Z');
INSERT INTO "ncen_updater_ledger" VALUES(3,'0002_b','down','9d57da54d87384004f642a2f891d60061f31779723107ed252c2def501e33c1c','2.0','abcdefgh','2026-01-01T00:00:00Z');
INSERT INTO "ncen_updater_ledger" VALUES(4,'0002_b','up','41731ea0805576b158fd6b204989ea72579f90f67a41213a3865ee18fa411caf','2.0','abcdefgh','2026-01-01T00:00:00Z');
CREATE TABLE ncen_updater_state (one integer PRIMARY KEY CHECK (one = 1), release text NOT NULL, generation bigint NOT NULL, change text NOT NULL);
INSERT INTO "ncen_updater_state" VALUES(1,'2.0',2,'abcdefgh');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('ncen_updater_ledger',4);
COMMIT;
