"""Tests that the fingerprint covers everything that programs rely on, and nothing else."""

from __future__ import annotations

import pytest

from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.adapters.databases.schema import find_changed_kinds
from tests.agent.adapters.databases.postgresql.site import Site

STAMP = (
    "CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN {body} RETURN NEW; END $$"
)
MADE = (
    STAMP.format(body=""),
    "CREATE TRIGGER stamped BEFORE UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION stamp()",
)
CHANGES = (
    "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    STAMP.format(body="NEW.id := NEW.id;"),
    "ALTER FUNCTION stamp() SECURITY DEFINER",
    "CREATE TRIGGER again AFTER INSERT ON cases FOR EACH ROW EXECUTE FUNCTION stamp()",
    "ALTER TABLE cases DISABLE TRIGGER stamped",
    "DROP TRIGGER stamped ON cases",
)


def _shape(site: Site) -> str:
    return site.engine().read_schema(LiveDatabase("seizure")).fingerprint


def test_functions_and_triggers_are_fingerprinted(site: Site) -> None:
    site.sql("t_seizure", *MADE)
    seen = {_shape(site): "before"}
    for change in CHANGES:
        site.sql("t_seizure", change)
        shape = _shape(site)
        assert shape not in seen, (change, seen[shape])
        seen[shape] = change


def test_recreated_schema_has_the_same_fingerprint(site: Site) -> None:
    site.sql("t_seizure", *MADE)
    shape = _shape(site)
    site.sql("t_seizure", "DROP TRIGGER stamped ON cases", "DROP FUNCTION stamp()", *MADE)
    assert _shape(site) == shape


#: What an application has, and what an intruder might add to it, or use.
BASE = (
    "CREATE TYPE state AS ENUM ('new', 'old')",
    "CREATE DOMAIN short AS text CHECK (length(VALUE) < 9)",
    "CREATE FUNCTION ours(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
    "CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2'",
    "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = same)",
    "CREATE TABLE files (id int PRIMARY KEY, name text, size bigint, at timestamptz, of state,"
    " doc jsonb, fits boolean)",
    "CREATE INDEX by_name ON files (name)",
    "CREATE VIEW names AS SELECT name FROM files",
)
CALLS = "calling-indexes"
KINDS = {
    "CREATE TABLE more (a int, b text)": "tables, columns",
    "CREATE TABLE more (a bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)":
        "tables, columns, constraints, indexes, sequences",
    "CREATE TABLE more (a serial)": "tables, sequences, computed-columns",
    "CREATE TABLE more (a text) PARTITION BY LIST (lower(a))":
        "columns, computed-columns",
    "CREATE TABLE more (a text) PARTITION BY LIST (a)": "tables, columns",
    "ALTER TABLE files ENABLE ROW LEVEL SECURITY": "tables, policies",
    "ALTER TABLE files ADD more bigint NOT NULL DEFAULT 0": "columns",
    "ALTER TABLE files ADD more varchar(9) DEFAULT 'none'": "columns",
    "ALTER TABLE files ADD more state DEFAULT 'new'": "columns",
    "ALTER TABLE files ADD more timestamptz DEFAULT CURRENT_TIMESTAMP": "columns",
    "ALTER TABLE files ADD more timestamptz DEFAULT now()": "computed-columns",
    "ALTER TABLE files ADD more text DEFAULT ours('a')": "computed-columns",
    "ALTER TABLE files ADD more text GENERATED ALWAYS AS (ours(name)) STORED": "computed-columns",
    "ALTER TABLE files ADD more short DEFAULT 'a'": "computed-columns",
    "ALTER TABLE files ALTER name SET DEFAULT ours('a')": "columns, computed-columns",
    "ALTER TABLE files ALTER size TYPE int": "columns",
    "ALTER TABLE files ALTER name SET NOT NULL": "columns",
    "ALTER TABLE files ADD CHECK (size > 0 AND of IN ('new', 'old')) NOT VALID": "constraints",
    "ALTER TABLE files ADD CHECK (ours(name) = 'a')": "calling-constraints",
    "ALTER TABLE files ADD CHECK (name === 'a')": "calling-constraints",
    "ALTER TABLE files ADD CHECK (name::short = 'a')": "calling-constraints",
    "ALTER TABLE files ADD CHECK (query_to_xml('SELECT 1', true, true, '') IS NOT NULL)":
        "calling-constraints",
    "ALTER TABLE files ADD UNIQUE (name)": "constraints, indexes",
    "ALTER TABLE files ADD FOREIGN KEY (size) REFERENCES files": "constraints",
    "ALTER DOMAIN short ADD CHECK (VALUE <> 'a')": "types",
    "CREATE INDEX more ON files (size, at DESC) INCLUDE (name)": "indexes",
    "CREATE INDEX more ON files USING gin (doc jsonb_path_ops)": "indexes",
    "CREATE INDEX more ON files USING hash (of)": "indexes",
    "CREATE INDEX more ON files (name) WHERE fits AND size > 3 AND of = 'new'": "indexes",
    "CREATE INDEX more ON files (lower(name))": "indexes",
    "DROP INDEX by_name": "indexes",
    "CREATE INDEX more ON files (ours(name))": CALLS,
    "CREATE INDEX more ON files (size) WHERE ours(name) = 'a'": CALLS,
    "CREATE INDEX more ON files ((name === 'a'))": CALLS,
    "CREATE INDEX more ON files ((name::short))": CALLS,
    "CREATE SEQUENCE more": "sequences",
    "CREATE VIEW more AS SELECT 1 AS one": "views",
    "CREATE OR REPLACE VIEW names AS SELECT ours(name) AS name FROM files": "views",
    "CREATE RULE more AS ON UPDATE TO files DO ALSO SELECT ours('a')": "rules",
    "CREATE CAST (state AS text) WITH INOUT AS ASSIGNMENT": "casts",
    "CREATE TYPE more AS ENUM ()": "types",
    "CREATE POLICY more ON files USING (fits)": "policies",
    "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'": "functions",
    "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " ALTER FUNCTION more() OWNER TO ncen; ALTER EXTENSION plpgsql ADD FUNCTION more()":
        "member-functions",
    "DROP EXTENSION plpgsql": "extensions",
}  # fmt: skip


@pytest.fixture
def had(site: Site) -> Site:
    site.sql("t_seizure", *BASE)
    return site


def test_schema_changes_are_reported_by_kind(had: Site) -> None:
    """Kinds that may run foreign code cannot be declared by a release."""
    before, told = had.engine().read_schema(LiveDatabase("seizure")).kinds, {}
    more = Site(had.server, names={"seizure": "t_more"})
    for statement in KINDS:
        had.sql("postgres", "CREATE DATABASE t_more TEMPLATE t_seizure")
        more.sql("t_more", statement)
        kinds = find_changed_kinds(before, more.engine().read_schema(LiveDatabase("seizure")).kinds)
        had.sql("postgres", "DROP DATABASE t_more WITH (FORCE)")
        told[statement] = ", ".join(kinds or ())
    assert told == KINDS
