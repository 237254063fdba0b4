"""Tests of the data loss read from a down migration; parked data counts as kept."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from demo.releases import manifests_directory
from ncen_updater.formats.data_loss import DataLoss, LossKind, find_data_loss, parse_declared_loss
from ncen_updater.formats.sql import ENGINE_NAMES

ADDS = "ALTER TABLE cases ADD COLUMN country text;"
NEW = "CREATE TABLE visits (id integer PRIMARY KEY, note text);"
SEEDS = "CREATE TABLE codes (code text); INSERT INTO codes VALUES ('A'), ('B');"


@dataclass(frozen=True)
class Case:
    name: str
    up: str
    down: str
    found: str = ""
    engines: tuple[str, ...] = ENGINE_NAMES


PG, LITE = ("postgresql",), ("sqlite",)
DROPS = "ALTER TABLE cases DROP COLUMN country;"
PARKS = "CREATE TABLE ncen_kept.cases AS SELECT id, country FROM cases;"
CASES = [
    Case("a column", ADDS, DROPS, "cases.country column"),
    Case("without the word COLUMN", ADDS, "ALTER TABLE cases DROP country", "cases.country column"),
    Case("quoted", ADDS, 'ALTER TABLE "cases" DROP COLUMN "country"', "cases.country column"),
    Case(
        "two at once", "", "ALTER TABLE IF EXISTS ONLY public.a DROP b, DROP COLUMN IF EXISTS c",
        "a.b column, a.c column", PG,
    ),
    Case("in another schema", "", "ALTER TABLE x.a DROP b", "x.a.b column"),
    Case("a constraint is no value", "", "ALTER TABLE a DROP CONSTRAINT c"),
    Case("in a comment", ADDS, "-- DROP TABLE cases;\nSELECT 1"),
    Case("in a string", ADDS, "SELECT 'ALTER TABLE cases DROP COLUMN country'"),
    Case("parked", ADDS, PARKS + DROPS),
    Case("parked on SQLite", ADDS, PARKS.replace(".cases", "__cases") + DROPS, "", LITE),
    Case("parked by INSERT", ADDS, "INSERT INTO ncen_kept.c SELECT * FROM cases;" + DROPS),
    Case("parked too late", ADDS, DROPS + PARKS, "cases.country column"),
    Case(
        "another column is parked", ADDS, "INSERT INTO ncen_kept.c SELECT id FROM cases;" + DROPS,
        "cases.country column",
    ),
    Case(
        "put into a table that is not the parked one", ADDS,
        "CREATE TABLE mine AS SELECT * FROM cases;" + DROPS, "cases.country column",
    ),
    Case("parked and thrown away", ADDS, PARKS + DROPS + "DROP TABLE ncen_kept.cases",
         "cases rows"),
    Case("emptied of what was parked before", ADDS, "DROP TABLE IF EXISTS ncen_kept.cases"),
    Case(
        "computed",
        "ALTER TABLE cases ADD COLUMN country text GENERATED ALWAYS AS (up(c)) STORED",
        DROPS,
    ),
    Case("computed, shortly", "ALTER TABLE cases ADD COLUMN country AS (up(c))", DROPS, "", LITE),
    Case(
        "an identity is entered", "ALTER TABLE cases ADD country int GENERATED ALWAYS AS IDENTITY",
        DROPS, "cases.country column", PG,
    ),
    Case("a table", NEW, "DROP TABLE visits", "visits table"),
    Case("two tables", "", "DROP TABLE IF EXISTS a, b CASCADE", "a table, b table", PG),
    Case("a parked table", NEW, "INSERT INTO ncen_kept.v SELECT * FROM visits; DROP TABLE visits"),
    Case(
        "joined to what is parked", NEW,
        "INSERT INTO ncen_kept.v SELECT c.* FROM cases c JOIN visits ON true; DROP TABLE visits",
        "visits table",
    ),
    Case("a table of the release's own rows", SEEDS, "DROP TABLE codes", "codes table own"),
    Case("a schema", "", "DROP SCHEMA IF EXISTS extra CASCADE", "extra schema", PG),
    Case("its own rows", SEEDS, "DELETE FROM codes WHERE code IN ('A', 'B')"),
    Case("other rows too", SEEDS, "DELETE FROM codes WHERE code = 'C'", "codes rows"),
    Case("rows by a question", SEEDS, "DELETE FROM codes WHERE code = 'A' OR true", "codes rows"),
    Case("all rows", "", "DELETE FROM cases", "cases rows"),
    Case("truncated", "", "TRUNCATE TABLE cases, visits", "cases rows, visits rows", PG),
    Case("values", "", "UPDATE cases SET state = 'x', kg = 0",
         "cases.state values, cases.kg values"),
    Case("values of some", "", "UPDATE cases SET kg = 0 WHERE kg < 5", "cases.kg values"),
    Case("only what is empty", "", "UPDATE cases SET kg = 0 WHERE kg IS NULL AND state = 'x'"),
    Case("empty or not", "", "UPDATE c SET kg = 0 WHERE a = 1 OR kg IS NULL", "c.kg values"),
    Case("the release's own word", "UPDATE r SET v = '2'", "UPDATE r SET v = '1'"),
    Case("not the release's own", "UPDATE r SET w = '2'", "UPDATE r SET v = '1'", "r.v values"),
    Case("exchanged", "UPDATE c SET s = 'b' WHERE s = 'a'", "UPDATE c SET s = 'a' WHERE s = 'b'"),
    Case(
        "not exchanged", "UPDATE c SET s = 'b' WHERE s = 'a'", "UPDATE c SET s = 'x' WHERE s = 'b'",
        "c.s values",
    ),
    Case("a column that comes back is filled", "", "ALTER TABLE a ADD b int; UPDATE a SET b = 1"),
    Case("narrower", "", "ALTER TABLE a ALTER COLUMN b TYPE varchar(10)", "a.b narrower", PG),
    Case("wider", "", "ALTER TABLE a ALTER b SET DATA TYPE text USING b::text", "", PG),
    Case(
        "longer again", "ALTER TABLE a ALTER b TYPE varchar(9)",
        "ALTER TABLE a ALTER b TYPE varchar(20)", "", PG,
    ),
    Case(
        "shorter again", "ALTER TABLE a ALTER b TYPE varchar(20)",
        "ALTER TABLE a ALTER b TYPE varchar(9)", "a.b narrower", PG,
    ),
    *(
        Case(f"numeric from {kind}", f"ALTER TABLE a ALTER b TYPE {kind}",
             "ALTER TABLE a ALTER b TYPE numeric", found, PG)
        for kind, found in (
            ("double precision", "a.b narrower"), ("bigint", ""), ("numeric(10, 2)", ""),
        )
    ),
    Case("numeric from a type that is unknown", "", "ALTER TABLE a ALTER b TYPE numeric",
         "a.b narrower", PG),
    Case(
        "fewer digits", "ALTER TABLE a ALTER b TYPE bigint", "ALTER TABLE a ALTER b TYPE int",
        "a.b narrower", PG,
    ),
    Case("a rule", "", "ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0)", "a refuses", PG),
    Case("a key", "", "ALTER TABLE a ADD UNIQUE (b)", "a refuses", PG),
    Case("not empty", "", "ALTER TABLE a ALTER b SET NOT NULL", "a.b refuses", PG),
    Case(
        "not empty any more", "",
        "UPDATE a SET b = 0 WHERE b IS NULL; ALTER TABLE a ALTER b SET NOT NULL", "", PG,
    ),
    Case(
        "rebuilt, as SQLite had to", ADDS,
        "CREATE TABLE new (id int, kg int, CHECK (kg > 0)); INSERT INTO new SELECT id, 1 FROM cases"
        ";DROP TABLE cases; ALTER TABLE new RENAME TO cases", "cases.country column",
    ),
    Case(
        "rebuilt from the old one", ADDS,
        "ALTER TABLE cases RENAME TO old; CREATE TABLE cases (id int);"
        "INSERT INTO cases SELECT id FROM old; DROP TABLE old", "cases.country column",
    ),
    *(
        Case(f"{number}: {down}", "", down, found, PG)
        for number, (down, found) in enumerate(
            (
                ("MERGE INTO cases c USING x ON c.id = x.id WHEN MATCHED THEN DELETE",
                 "cases rows"),
                ("MERGE INTO cases c USING x ON c.id = x.id WHEN NOT MATCHED BY SOURCE AND c.a > 1"
                 " THEN DELETE WHEN MATCHED THEN DO NOTHING", "cases rows"),
                ("MERGE INTO ONLY cases USING x ON true WHEN MATCHED AND x.a THEN UPDATE SET kg ="
                 " CASE WHEN x.b THEN 1 END, (s, t) = (1, 2) WHEN NOT MATCHED THEN INSERT"
                 " VALUES (1)", "cases.kg values, cases.s values, cases.t values"),
                ("MERGE INTO cases USING x ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", ""),
                (PARKS + "MERGE INTO cases USING x ON true WHEN MATCHED THEN UPDATE SET country ="
                 " 'x'", ""),
                ("INSERT INTO cases AS c VALUES (1) ON CONFLICT (id) DO UPDATE SET kg ="
                 " excluded.kg, s = 1 WHERE c.s > 1 RETURNING id",
                 "cases.kg values, cases.s values"),
                ("INSERT INTO cases VALUES (1) ON CONFLICT DO NOTHING", ""),
                ("INSERT INTO cases AS c VALUES (1) ON CONFLICT (id) DO UPDATE SET kg = 1"
                 " WHERE c.kg IS NULL", ""),
                ("INSERT INTO cases AS c VALUES (1) ON CONFLICT (id) DO UPDATE SET kg = 1"
                 " WHERE excluded.kg IS NULL", "cases.kg values"),
                ("INSERT INTO ncen_kept.c SELECT * FROM d ON CONFLICT (id) DO UPDATE SET a = 1",
                 ""),
                ("TRUNCATE a, ONLY b RESTART IDENTITY CASCADE",
                 "a rows cascades, b rows cascades"),
                ("TRUNCATE ONLY a, ONLY b", "a rows, b rows"),
                (PARKS + "TRUNCATE cases", ""),
                (PARKS + "TRUNCATE cases CASCADE", "cases rows cascades"),
                ("TRUNCATE ncen_kept.x CASCADE", "ncen_kept.x rows cascades"),
                ("DROP SCHEMA a, b CASCADE", "a schema, b schema"),
                ("DROP SCHEMA ncen_kept, b CASCADE", "b schema"),
                ("DROP SCHEMA IF EXISTS ncen_kept CASCADE", ""),
                (PARKS + "DROP SCHEMA IF EXISTS ncen_kept CASCADE", "cases rows"),
                (PARKS + "TRUNCATE ncen_kept.cases", "cases rows"),
                ("DROP TYPE IF EXISTS kind, other CASCADE", "kind dependents, other dependents"),
                ("DROP TYPE kind", ""),
                ("DROP VIEW v CASCADE", ""),
                ("DROP OWNED BY app", "app dependents"),
                ("ALTER TYPE place DROP ATTRIBUTE town CASCADE", "place dependents"),
                ("ALTER TYPE place ADD ATTRIBUTE town text", ""),
                ("ALTER TABLE a ALTER b TYPE text USING 'x'", "a.b narrower"),
                ("ALTER TABLE a ALTER b TYPE text USING CAST(b AS text)", ""),
                ("WITH gone AS (DELETE FROM cases RETURNING *) SELECT count(*) FROM gone",
                 "cases rows"),
                ("WITH gone AS (DELETE FROM cases RETURNING *) INSERT INTO ncen_kept.cases"
                 " SELECT * FROM gone", ""),
                ("WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO ncen_kept.b SELECT * FROM b",
                 "a rows"),
                ("WITH p AS (INSERT INTO ncen_kept.c SELECT id, kg FROM cases RETURNING 1)"
                 " UPDATE cases SET kg = 0", ""),
                ("WITH x (id) AS MATERIALIZED (SELECT id FROM y), z AS (UPDATE a SET b = 1"
                 " RETURNING c) DELETE FROM cases USING x", "a.b values, cases rows"),
                ("WITH gone AS (DELETE FROM cases RETURNING *) SELECT * INTO ncen_kept.c FROM gone",
                 ""),
                ("EXPLAIN (ANALYZE) DELETE FROM cases", "cases rows"),
                ("COPY (DELETE FROM cases RETURNING *) TO '/x'", "cases rows"),
                ("CREATE TABLE t AS WITH d AS (DELETE FROM cases RETURNING *) SELECT * FROM d",
                 "cases rows"),
                ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM cases; END", ""),
                ("SELECT 1 FROM cases FOR UPDATE", ""),
                ("ALTER TABLE a VALIDATE CONSTRAINT c", "a refuses"),
            )
        )
    ),
    *(
        Case(f"{number}: {down}", "", down, found, LITE)
        for number, (down, found) in enumerate(
            (
                ("REPLACE INTO cases VALUES (1)", "cases rows"),
                ("INSERT OR REPLACE INTO cases SELECT * FROM x", "cases rows"),
                ("INSERT OR IGNORE INTO cases VALUES (1)", ""),
                ("UPDATE OR REPLACE cases SET kg = 0", "cases rows, cases.kg values"),
                ("UPDATE OR IGNORE cases SET kg = 0", "cases.kg values"),
                ("INSERT INTO cases VALUES (1) ON CONFLICT (id) DO UPDATE SET kg = 1 ON CONFLICT"
                 " DO UPDATE SET s = 1", "cases.kg values, cases.s values"),
                ("INSERT OR REPLACE INTO ncen_kept__cases SELECT * FROM cases; DROP TABLE cases",
                 ""),
                ("REPLACE INTO ncen_kept__cases SELECT * FROM cases; DELETE FROM cases", ""),
                ("WITH x AS (SELECT 1) DELETE FROM cases", "cases rows"),
                ("CREATE TRIGGER t AFTER DELETE ON a BEGIN DELETE FROM cases; END", ""),
            )
        )
    ),
    Case("thrown away behind what was parked", "",
         "INSERT INTO ncen_kept.c SELECT * FROM cases; DELETE FROM ncen_kept.c", "cases rows"),
    Case("where the table may have been there", "",
         "CREATE TABLE IF NOT EXISTS cases (id int); DROP TABLE cases", "cases table"),
    Case("where the upgrade dropped it", "DROP TABLE cases",
         "CREATE TABLE IF NOT EXISTS cases (id int); UPDATE cases SET id = 1"),
    Case("a unique index", "", "CREATE UNIQUE INDEX IF NOT EXISTS i ON a (b)", "a refuses"),
    Case("empty, or something else", "", "UPDATE c SET kg = 0 WHERE kg IS NULL OR a = 1",
         "c.kg values"),
    Case("empty in another table", "", "UPDATE c SET kg = 0 FROM x WHERE x.kg IS NULL",
         "c.kg values"),
    Case("empty by the name of the table", "", "UPDATE c SET kg = 0 FROM x WHERE c.kg IS NULL AND"
         " (a = 1 OR b = 2)"),
    Case("its own rows but for", SEEDS, "DELETE FROM codes WHERE code != 'A'", "codes rows"),
    Case("its own rows and what lies between", SEEDS,
         "DELETE FROM codes WHERE code BETWEEN 'A' AND 'B'", "codes rows"),
    Case("its own rows by what is reckoned", SEEDS, "DELETE FROM codes WHERE f(code) = 'A'",
         "codes rows"),
    Case("a column named generated", "ALTER TABLE cases ADD generated text",
         "ALTER TABLE cases DROP generated", "cases.generated column"),
    Case("a column named like a keyword", "", 'ALTER TABLE cases DROP COLUMN "column"',
         "cases.column column"),
    Case("its own rows by another column",
         "INSERT INTO codes (code, state) VALUES ('A', 'open'), ('B', 'open')",
         "DELETE FROM codes WHERE state = 'open'", "codes rows"),
    Case("its own rows by the first column",
         "INSERT INTO codes (code, state) VALUES ('A', 'open'), ('B', 'open')",
         "DELETE FROM codes WHERE codes.code IN ('A', 'B') AND state LIKE 'o%'"),
    Case("its own rows and those of a column", SEEDS, "DELETE FROM codes WHERE code IN ('A', kind)",
         "codes rows"),
    Case("its own rows and an escaped text", SEEDS, "DELETE FROM codes WHERE code IN ('A', E'Z')",
         "codes rows", PG),
    Case("read for a condition only", NEW, "INSERT INTO ncen_kept.c SELECT * FROM cases WHERE id IN"
         " (SELECT id FROM visits); DROP TABLE visits", "visits table"),
    Case("read in the second part of a union", NEW, "INSERT INTO ncen_kept.c SELECT * FROM cases"
         " WHERE id > 1 UNION SELECT * FROM visits; DROP TABLE visits"),
    Case("read from another schema", "",
         "INSERT INTO ncen_kept.c SELECT * FROM cases; DROP TABLE old.cases", "old.cases table"),
    Case("renamed as parked and thrown away", "",
         "ALTER TABLE cases RENAME TO ncen_kept__cases; DROP TABLE ncen_kept__cases", "cases rows"),
    Case("moved to what is parked and thrown away", "",
         "ALTER TABLE cases SET SCHEMA ncen_kept; DROP SCHEMA ncen_kept CASCADE", "cases rows", PG),
    Case("moved to what is parked", "", "ALTER TABLE public.cases SET SCHEMA ncen_kept", "", PG),
    Case(
        "rebuilt where the upgrade rebuilt", "ALTER TABLE cases RENAME TO old; CREATE TABLE cases"
        " (id int, country text); INSERT INTO cases SELECT id, '' FROM old; DROP TABLE old",
        "CREATE TABLE new (id int); INSERT INTO new SELECT id FROM cases; DROP TABLE cases;"
        "ALTER TABLE new RENAME TO cases", "cases.country column",
    ),
    Case("empty in an alternative", "",
         "UPDATE c SET kg = 0 WHERE CASE WHEN a AND kg IS NULL AND b THEN c END", "c.kg values"),
    Case("empty for another clause", "", "INSERT INTO c VALUES (1) ON CONFLICT (a) DO UPDATE SET"
         " kg = 1 WHERE a = 1 ON CONFLICT (b) DO UPDATE SET s = 1 WHERE a = 1 AND kg IS NULL",
         "c.kg values, c.s values", LITE),
    Case("after a comparison", "", "UPDATE c SET a = b IS DISTINCT FROM d, kg = 1",
         "c.a values, c.kg values"),
    Case("an element and a field", "", "UPDATE c SET a[1] = 0, b.d = 1", "c.a values, c.b values",
         PG),
    Case("a rule named valid", "", "ALTER TABLE a ADD CONSTRAINT valid CHECK (valid > 0)",
         "a refuses", PG),
    Case("a rule for new rows", "", "ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0) NOT VALID", "",
         PG),
    Case("a rule that is not empty", "", "ALTER TABLE a ADD NOT NULL b", "a refuses", PG),
    *(
        Case(f"a length of {name}", f"ALTER TABLE a ALTER b TYPE varchar({old})",
             f"ALTER TABLE a ALTER b TYPE varchar({new})", "a.b narrower", PG)
        for name, old, new in (("5000 digits", "9" * 5000, 9), ("no digits", "\u00b2", 9))
    ),
    Case(
        "renamed first", ADDS,
        "ALTER TABLE cases RENAME COLUMN country TO c; ALTER TABLE cases DROP COLUMN c",
        "cases.country column",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "engine"),
    [(case, engine) for case in CASES for engine in case.engines],
    ids=lambda item: item.name if isinstance(item, Case) else item,
)
def test_lossy_down_migrations_are_found(case: Case, engine: str) -> None:
    found = [
        f"{loss.object_name} "
        f"{loss.kind}{' own' * loss.is_release_table}{' cascades' * loss.cascades}"
        for loss in find_data_loss(case.up, case.down, engine)
    ]
    assert ", ".join(found) == case.found


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_truncated_statements_are_read(engine: str) -> None:
    for case in CASES:
        words = case.down.split()
        for end in range(len(words)):
            find_data_loss(" ".join(words[:end]), " ".join(words[:end]), engine)


def test_losses_name_lines_of_the_file() -> None:
    (loss,) = find_data_loss("", "-- first\n\nDROP TABLE a;", "postgresql")
    assert loss == DataLoss("a", None, LossKind.TABLE, 3)


def test_declared_losses_are_parsed() -> None:
    assert [parse_declared_loss(name).object_name for name in ("a", "a.b", "x.a.b")] == [
        "a",
        "a.b",
        "x.a.b",
    ]
    assert (parse_declared_loss("x.a.b").table, parse_declared_loss("x.a.b").column) == ("x.a", "b")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_demo_migrations_lose_nothing(engine: str) -> None:
    base = manifests_directory() / "base" / "migrations" / engine
    for down in base.rglob("*.down.sql"):
        up = down.with_name(down.name.replace(".down.", ".up."))
        found = find_data_loss(up.read_text("utf-8"), down.read_text("utf-8"), engine)
        assert [loss for loss in found if not loss.is_release_table] == []
