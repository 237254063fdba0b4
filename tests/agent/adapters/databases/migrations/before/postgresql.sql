-- Written by the agent that ran migrations through Alembic: 0001_a and 0002_b up,
-- 0002_b down and up again.
CREATE SCHEMA ncen_kept;
CREATE SCHEMA ncen_updater;
CREATE TABLE ncen_updater.alembic_version (
    version_num character varying(100) NOT NULL
);
CREATE TABLE ncen_updater.ledger (
    seq bigint NOT NULL,
    id text NOT NULL,
    direction text NOT NULL,
    sha256 text NOT NULL,
    release text NOT NULL,
    change text NOT NULL,
    applied_at text NOT NULL
);
ALTER TABLE ncen_updater.ledger ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ncen_updater.ledger_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE ncen_updater.state (
    one integer NOT NULL,
    release text NOT NULL,
    generation bigint NOT NULL,
    change text NOT NULL,
    CONSTRAINT state_one_check CHECK ((one = 1))
);
CREATE TABLE public.a (
    x text
);
CREATE TABLE public.b (
    y integer
);
INSERT INTO ncen_updater.alembic_version VALUES ('0002_b');
INSERT INTO ncen_updater.ledger OVERRIDING SYSTEM VALUE VALUES (1, '0001_a', 'up', '4bc3bff8e3f7aa79b3e6b0e707cd9f5454c581b117682c9ba9a84108bb5216f7', '2.0', 'abcdefgh', '2026-01-01T00:00:00Z');
INSERT INTO ncen_updater.ledger OVERRIDING SYSTEM VALUE VALUES (2, '0002_b', 'up', '41731ea0805576b158fd6b204989ea72579f90f67a41213a3865ee18fa411caf', '2.0', 'abcdefgh', '2026-01-01T00:00:00Z');
INSERT INTO ncen_updater.ledger OVERRIDING SYSTEM VALUE VALUES (3, '0002_b', 'down', '9d57da54d87384004f642a2f891d60061f31779723107ed252c2def501e33c1c', '2.0', 'abcdefgh', '2026-01-01T00:00:00Z');
INSERT INTO ncen_updater.ledger OVERRIDING SYSTEM VALUE VALUES (4, '0002_b', 'up', '41731ea0805576b158fd6b204989ea72579f90f67a41213a3865ee18fa411caf', '2.0', 'abcdefgh', '2026-01-01T00:00:00Z');
INSERT INTO ncen_updater.state VALUES (1, '2.0', 2, 'abcdefgh');
INSERT INTO public.a VALUES ('100% of :name; ''quoted''');
SELECT pg_catalog.setval('ncen_updater.ledger_seq_seq', 4, true);
ALTER TABLE ONLY ncen_updater.alembic_version
    ADD CONSTRAINT alembic_version_pkey PRIMARY KEY (version_num);
ALTER TABLE ONLY ncen_updater.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY ncen_updater.state
    ADD CONSTRAINT state_pkey PRIMARY KEY (one);
