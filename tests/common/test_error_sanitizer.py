"""Tests of sanitised database errors: values of rows are removed, what helps repair is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.common.error_sanitizer import sanitize_error, sanitize_program_output

PLANTED = "Amina Planted-7"
ON_POSTGRESQL = [
    ("INSERT INTO t (name, kg) VALUES ('{0}', NULL)",
     "NotNullViolation (23502), table t, column kg"),
    ("INSERT INTO t VALUES (1, '{0}', 1), (1, '{0}', 1)",
     "UniqueViolation (23505), table t, constraint t_pkey"),
    ("INSERT INTO t (name, kg) VALUES ('{0}', -1)",
     "CheckViolation (23514), table t, constraint positive"),
    ("UPDATE t SET kg = name::integer", "InvalidTextRepresentation (22P02)"),
    ("DO $$ BEGIN RAISE EXCEPTION 'no class for %', '{0}'; END $$", "RaiseException (P0001)"),
    ("DO $$ BEGIN EXECUTE (SELECT name FROM t LIMIT 1); END $$", "SyntaxError (42601)"),
    ("SELECT * FROM nowhere", 'relation "nowhere" does not exist (42P01)'),
    ("SELEC 1", 'syntax error at or near "SELEC" (42601)'),
    ("SELECT * FROM pg_authid", "permission denied for table pg_authid (42501)"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), ON_POSTGRESQL)
def test_postgresql_errors_are_sanitized(
    postgres: EmbeddedPostgres, sql: str, expected: str
) -> None:
    with psycopg.connect(f"host={postgres.host} dbname=postgres user=postgres") as connection:
        connection.execute(
            "CREATE TEMP TABLE t (id serial PRIMARY KEY, name text, kg int NOT NULL,"
            " CONSTRAINT positive CHECK (kg > 0))"
        )
        connection.execute("INSERT INTO t (name, kg) VALUES (%s, 1)", [PLANTED])
        if "pg_authid" in sql:
            connection.execute("SET ROLE pg_monitor")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql.format(PLANTED).encode())
        connection.rollback()
    assert sanitize_error(caught.value) == expected
    assert PLANTED not in sanitize_error(caught.value)


ON_SQLITE = [
    ("INSERT INTO t (name) VALUES ('{0}')", "NOT NULL constraint failed: t.kg"),
    ("INSERT INTO t VALUES (1, '{0}', 1)", "UNIQUE constraint failed: t.id"),
    ("INSERT INTO t VALUES (2, '{0}', -1)", "CHECK constraint failed: positive"),
    ("SELECT json_extract('{{}}', name) FROM t", "SQLITE_ERROR"),
    ("SELECT * FROM nowhere", "no such table: nowhere"),
    ("SELEC 1", 'near "SELEC": syntax error'),
    ("ALTER TABLE t ADD name text", "duplicate column name: name"),
    ("SELECT CAST(X'ff416d696e61' AS text)", "Could not decode to UTF-8 column"),
]


@pytest.mark.parametrize(("sql", "expected"), ON_SQLITE)
def test_sqlite_errors_are_sanitized(sql: str, expected: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE t (id integer PRIMARY KEY, name text, kg int NOT NULL,"
            " CONSTRAINT positive CHECK (kg > 0))"
        )
        connection.execute("INSERT INTO t VALUES (1, ?, 1)", [PLANTED])
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(sql.format(PLANTED)).fetchall()
    assert sanitize_error(caught.value).startswith(expected)
    assert PLANTED not in sanitize_error(caught.value)
    assert "Amina" not in sanitize_error(caught.value)


def test_trigger_messages_are_withheld() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            "CREATE TABLE t (a); CREATE TRIGGER r BEFORE INSERT ON t BEGIN"
            f" SELECT RAISE(ABORT, '{PLANTED}'); END;"
        )
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute("INSERT INTO t VALUES (1)")
    assert sanitize_error(caught.value) == "SQLITE_CONSTRAINT_TRIGGER"


def test_other_errors_are_shown() -> None:
    assert sanitize_error(ValueError(" a number ")) == "a number"


OUTPUT = f"""pg_restore: connecting to database for restore
pg_restore: error: COPY failed for table "offences": ERROR:  invalid input syntax: "{PLANTED}"
DETAIL:  Failing row contains (7, {PLANTED}).
CONTEXT:  COPY offences, line 3, column kg: "{PLANTED}"
pg_dump: error: query failed: ERROR:  permission denied for table offences
Command was: COPY offences FROM stdin; {PLANTED}
pg_dump: error: unrecognized compression algorithm: "zstd"
"""


def test_program_output_reveals_no_row() -> None:
    assert sanitize_program_output(OUTPUT).splitlines() == [
        "pg_restore: connecting to database for restore",
        'pg_restore: error: COPY failed for table "offences": ERROR',
        "pg_dump: error: query failed: ERROR:  permission denied for table offences",
        'pg_dump: error: unrecognized compression algorithm: "zstd"',
    ]
