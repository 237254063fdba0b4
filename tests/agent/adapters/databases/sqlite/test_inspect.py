"""Tests of digests, fingerprints and lost rows of one file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.schema import SchemaDigest, find_changed_kinds
from ncen_updater.agent.adapters.databases.sqlite.inspection import (
    compute_table_digests,
    count_entered_rows,
    count_lost_rows,
    count_newer_rows,
    list_tables,
    read_newest_rowids,
    read_schema,
)
from tests.agent.adapters.databases.migrations.factories import RENAMED, find_losses

BASE = (
    "CREATE TABLE kind (id INTEGER PRIMARY KEY, code TEXT UNIQUE);"
    "CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER REFERENCES kind (id), note TEXT"
    " CHECK (note <> ''), size REAL DEFAULT 1);"
    "CREATE INDEX by_note ON item (note);"
    "CREATE VIEW short AS SELECT id FROM item;"
    "CREATE TRIGGER stamp AFTER UPDATE ON item BEGIN SELECT 1; END;"
)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def schema(sql: str) -> SchemaDigest:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.create_function("upside", 1, str, deterministic=True)
        connection.create_function("regexp", 2, str)
        connection.create_collation("ours", lambda one, other: (one > other) - (one < other))
        connection.executescript(sql)
        return read_schema(connection)


def shape(sql: str) -> str:
    return schema(sql).fingerprint


SAME = {
    "spaces and letters": (BASE.replace("CREATE TABLE item", "create  table item"),),
    "column order": (BASE.replace("id INTEGER PRIMARY KEY, code TEXT UNIQUE",
                                  "code TEXT UNIQUE, id INTEGER PRIMARY KEY"),),
    "quoted": (BASE.replace("TABLE kind (id", 'TABLE "kind" ("id"'),),
    "own table": (BASE + "CREATE TABLE ncen_updater_x (a);",),
    "parked rows": (BASE + "CREATE TABLE ncen_kept__item (a);",),
    "rows": (BASE + "INSERT INTO kind VALUES (1, 'a');",),
}  # fmt: skip
OTHER = {
    "column": BASE.replace("note TEXT", "note TEXT, more TEXT"),
    "type": BASE.replace("size REAL", "size TEXT"),
    "not null": BASE.replace("size REAL", "size REAL NOT NULL"),
    "default": BASE.replace("DEFAULT 1", "DEFAULT 2"),
    "unique": BASE.replace(" UNIQUE", ""),
    "reference": BASE.replace("REFERENCES kind (id)", "REFERENCES kind (id) ON DELETE CASCADE"),
    "check": BASE.replace("note <> ''", "note <> 'x'"),
    "collation": BASE.replace("code TEXT", "code TEXT COLLATE NOCASE"),
    "strict": BASE.replace("code TEXT UNIQUE)", "code TEXT UNIQUE) STRICT"),
    "index": BASE.replace("ON item (note)", "ON item (note DESC)"),
    "index name": BASE.replace("by_note", "by_word"),
    "partial index": BASE.replace("ON item (note)", "ON item (note) WHERE size > 1"),
    "view": BASE.replace("SELECT id FROM item;", "SELECT id + 1 FROM item;"),
    "trigger": BASE.replace("SELECT 1; END", "SELECT 2; END"),
    "autoincrement": BASE.replace("KEY, code", "KEY AUTOINCREMENT, code"),
    "generated": BASE.replace("size REAL DEFAULT 1", "size REAL AS (id + 1)"),
    "table": BASE + "CREATE TABLE more (a);",
}


@pytest.mark.parametrize("name", SAME)
def test_cosmetic_differences_keep_the_fingerprint(name: str) -> None:
    assert shape(SAME[name][0]) == shape(BASE)


@pytest.mark.parametrize("name", OTHER)
def test_schema_differences_change_the_fingerprint(name: str) -> None:
    assert OTHER[name] != BASE
    assert shape(OTHER[name]) != shape(BASE)


def test_fingerprint_is_stable_across_versions() -> None:
    """Another one would make every schema of every site a changed one."""
    assert shape(BASE) == "ceb8f06c8d89e53007c52dbb974241506a617d76a3ffbfadc6aaf9bf164080f6"


KINDS = {
    "CREATE TABLE more (a INTEGER PRIMARY KEY, b TEXT)": "tables, columns",
    "ALTER TABLE item ADD COLUMN more TEXT": "columns",
    "ALTER TABLE item ADD COLUMN more TEXT NOT NULL DEFAULT ''": "columns",
    "ALTER TABLE item ADD COLUMN more TEXT COLLATE NOCASE": "columns",
    "ALTER TABLE item ADD COLUMN more TEXT COLLATE ours": "columns, computed-columns",
    "ALTER TABLE item ADD COLUMN more TEXT DEFAULT (upside('a'))": "computed-columns",
    "ALTER TABLE item ADD COLUMN more TEXT AS (upside(note))": "computed-columns",
    "ALTER TABLE item ADD COLUMN more TEXT CHECK (more IN ('a', 'b') OR (more > 'x'))":
        "columns, constraints",
    "ALTER TABLE item ADD COLUMN more TEXT CHECK (upside(more) = 'a')":
        "columns, calling-constraints",
    "ALTER TABLE item ADD COLUMN more TEXT CHECK (more REGEXP 'a')":
        "columns, calling-constraints",
    "ALTER TABLE item ADD COLUMN more INTEGER REFERENCES kind (id)": "columns, constraints",
    "CREATE INDEX more ON item (size, note DESC)": "indexes",
    "CREATE INDEX more ON item (size) WHERE (note IS NOT NULL AND size > (1))": "indexes",
    "DROP INDEX by_note": "indexes",
    "CREATE INDEX more ON item (upside(note))": "calling-indexes",
    "CREATE INDEX more ON item (size) WHERE upside(note) = 'a'": "calling-indexes",
    "CREATE INDEX more ON item (note COLLATE ours)": "calling-indexes",
    "CREATE VIEW more AS SELECT 1": "views",
    "DROP TRIGGER stamp": "triggers",
    "CREATE VIRTUAL TABLE more USING rtree (id, low, high)":
        "tables, columns, outside-tables",
}  # fmt: skip


@pytest.mark.parametrize("statement", KINDS)
def test_schema_changes_are_reported_by_kind(statement: str) -> None:
    kinds = find_changed_kinds(schema(BASE).kinds, schema(f"{BASE}{statement};").kinds)
    assert ", ".join(kinds or ()) == KINDS[statement]


def rows(sql: str) -> tuple[int, str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(sql)
        found = compute_table_digests(connection)["t"]
        return found.rows, found.digest


ROWS = "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, 'y');"


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (a, b); INSERT INTO t VALUES (2, 'y'), (1, 'x');",
        "CREATE TABLE t (b, a); INSERT INTO t VALUES ('x', 1), ('y', 2);",
    ],
    ids=["order of rows", "order of columns"],
)
def test_irrelevant_differences_keep_the_digest(sql: str) -> None:
    assert rows(sql) == rows(ROWS)


@pytest.mark.parametrize(
    "values",
    ["(1, 'x')", "(1, 'x'), (1, 'x')", "(1, 'x'), (2, 'z')", "(1, 'x'), ('2', 'y')",
     "(1, 'x'), (2.0, 'y')", "(1, 'x'), (2, X'79')", "(1, 'x'), (2, NULL)", "(1, 'y'), (2, 'x')",
     "(1, 'x'), (2, 'y'), (2, 'y')"],
)  # fmt: skip
def test_row_differences_change_the_digest(values: str) -> None:
    assert rows(f"CREATE TABLE t (a, b); INSERT INTO t VALUES {values};") != rows(ROWS)


def test_non_utf8_text_and_duplicated_rows_are_digested() -> None:
    odd = "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, CAST(X'e4' AS TEXT));"
    assert rows(odd)[0] == 1
    twice = "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (1, 'x');"
    assert rows(twice)[0] == 2
    assert rows(twice)[1] != rows(twice.replace("'x'", "'y'"))[1]


def test_agent_tables_are_omitted(database: sqlite3.Connection) -> None:
    database.executescript('CREATE TABLE "b""c" (a); CREATE TABLE ncen_updater_a (a);')
    assert list_tables(database) == ('b"c',)
    assert list(compute_table_digests(database)) == ['b"c']


def test_lost_rows_are_counted(database: sqlite3.Connection) -> None:
    database.execute("ATTACH ':memory:' AS previous")
    database.executescript(
        "CREATE TABLE main.keyed (a INTEGER, b INTEGER, note, PRIMARY KEY (a, b));"
        "CREATE TABLE previous.keyed (a INTEGER, b INTEGER, note, PRIMARY KEY (a, b));"
        "ALTER TABLE main.keyed ADD COLUMN new DEFAULT 'n';"
        "INSERT INTO main.keyed VALUES (1, 1, 'y', 1), (1, 2, 'x', 1), (2, 1, 'x', 1),"
        " (3, 1, NULL, 1);"
        "INSERT INTO previous.keyed VALUES (1, 1, 'other'), (3, 1, NULL), (4, 1, 'x');"
        "CREATE TABLE main.edited (a); CREATE TABLE previous.edited (a);"
        "INSERT INTO main.edited VALUES (1), (3); INSERT INTO previous.edited VALUES (1), (2);"
        "CREATE TABLE main.loose (a); CREATE TABLE previous.loose (a);"
        "INSERT INTO main.loose VALUES (1), (2), (3); INSERT INTO previous.loose VALUES (9);"
        "CREATE TABLE main.fewer (a); CREATE TABLE previous.fewer (a);"
        "INSERT INTO previous.fewer VALUES (1);"
        "CREATE TABLE main.later (a); INSERT INTO main.later VALUES (1);"
        "CREATE TABLE main.ncen_kept__x (a); INSERT INTO main.ncen_kept__x VALUES (1);"
    )
    assert count_lost_rows(database) == {"edited": 1, "keyed": 3, "loose": 3, "later": 1}


def test_rows_added_since_are_counted(database: sqlite3.Connection) -> None:
    database.executescript(
        "CREATE TABLE empty (a);"
        "CREATE TABLE keyed (name TEXT PRIMARY KEY) WITHOUT ROWID;"
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, a);"
        "CREATE TABLE ncen_updater_own (a);"
        "INSERT INTO keyed VALUES ('a'); INSERT INTO plain VALUES (7, 'a'), (9, 'b');"
    )
    then = read_newest_rowids(database)
    assert then == {"empty": 0, "keyed": 1, "plain": 9}
    assert count_newer_rows(database, then) == {}
    database.executescript(
        "DELETE FROM plain WHERE id = 7; UPDATE plain SET a = 'c';"
        "INSERT INTO ncen_updater_own VALUES (1);"
    )
    assert count_newer_rows(database, then) == {}
    database.executescript(
        "INSERT INTO keyed VALUES ('b'), ('c'); INSERT INTO plain (a) VALUES ('d');"
        "INSERT INTO empty VALUES (1); CREATE TABLE later (a); INSERT INTO later VALUES (1);"
    )
    found = {"empty": 1, "keyed": 2, "later": 1, "plain": 1}
    assert count_newer_rows(database, then) == found


def test_entered_rows_of_renamed_objects_are_counted(tmp_path: Path) -> None:
    """Seen: none, since a rollback of several migrations renames them before it loses them."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE cases (id int)")
        for up, _ in RENAMED:
            database.executescript(up)
        database.execute("INSERT INTO dossiers VALUES (1, 'x')")
        database.execute("INSERT INTO clues VALUES (1), (2)")
        found = find_losses(tmp_path, "sqlite", *RENAMED)
        assert count_entered_rows(database, found) == {"dossiers.label": 1, "clues": 2}
