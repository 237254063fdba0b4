from __future__ import annotations

import pytest

from ncen_updater.formats.sql import (
    RefusalKind,
    SqlRefusal,
    check_migration_sql,
    check_query_sql,
    check_verify_sql,
    list_lexemes,
    split_statements,
)

BOTH = [
    ("a; b", ["a", "b"]),
    ("a; -- c;\n;b", ["a", "b"]),
    ("a 'x;''y;' ; b", ["a 'x;''y;'", "b"]),
    ('a "x;y" ; b /* ; */', ['a "x;y"', "b"]),
    ("", []),
    ("-- only; a comment", []),
    ("a;;; b;", ["a", "b"]),
    ("a 'it never ends; b", ["a 'it never ends", "b"]),
]
POSTGRESQL = [
    ("DO $$ BEGIN x; END $$; b", ["DO $$ BEGIN x; END $$", "b"]),
    ("a $t$ ; $$ ; $t$; b", ["a $t$ ; $$ ; $t$", "b"]),
    (r"a E'\';' ; b", [r"a E'\';'", "b"]),
    ("a /* /* ; */ ; */ ; b", ["a /* /* ; */ ; */", "b"]),
    ("a /* /* ; */ ; */ x; b", ["a /* /* ; */ ; */ x", "b"]),
    ("SELECT $1; b", ["SELECT $1", "b"]),
    ("a -- c\r; b", ["a", "b"]),
    ("a E'x' -- c\n '\\'; b'; c", ["a E'x' -- c\n '\\'; b'", "c"]),
    # A line of dashes may be cut into comments in more ways than anybody can try.
    (f"a E'x' {'-' * 200}\n c; b", [f"a E'x' {'-' * 200}\n c", "b"]),
    ("\ufeffa; \u00a0b", ["\ufeffa", "\u00a0b"]),
    (
        "CREATE FUNCTION f() BEGIN ATOMIC a; SELECT CASE WHEN x THEN y END; END; b",
        ["CREATE FUNCTION f() BEGIN ATOMIC a; SELECT CASE WHEN x THEN y END; END", "b"],
    ),
]
SQLITE = [
    (
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN x; SELECT CASE WHEN 1 THEN 2 END; END; b",
        ["CREATE TRIGGER t AFTER INSERT ON a BEGIN x; SELECT CASE WHEN 1 THEN 2 END; END", "b"],
    ),
    ("CREATE TEMP TRIGGER t BEGIN x; END; b", ["CREATE TEMP TRIGGER t BEGIN x; END", "b"]),
    ("a [x;y] `z;` ; b", ["a [x;y] `z;`", "b"]),
    ("a `x``;y` ; b", ["a `x``;y`", "b"]),
    ("a -- c\r; b", ["a"]),
    ("\ufeffa; b", ["a", "b"]),
]
ALL = [(e, *c) for e in ("postgresql", "sqlite") for c in BOTH]
ALL += [("postgresql", *c) for c in POSTGRESQL] + [("sqlite", *c) for c in SQLITE]


@pytest.mark.parametrize(("engine", "sql", "expected"), ALL)
def test_statements_are_split(engine: str, sql: str, expected: list[str]) -> None:
    found = [s.text for s in split_statements(sql, engine)]
    # A comment at the end of a statement is left out.
    assert found == [e.removesuffix(" /* /* ; */ ; */") for e in expected]


def test_statements_have_their_lines() -> None:
    assert [s.line for s in split_statements("a\n;\n-- c\n\nb 'x\ny';c", "sqlite")] == [1, 5, 6]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("COMMIT", "COMMIT"), ("begin", "BEGIN"), ("End", "END"), ("/* x */ rollback", "ROLLBACK"),
        ("ROLLBACK TO a", "ROLLBACK"), ("savepoint a", "SAVEPOINT"), ("RELEASE a", "RELEASE"),
        ("START TRANSACTION", "START"), ("PREPARE TRANSACTION 'a'", "PREPARE"), ("abort", "ABORT"),
        ("SET ROLE postgres", "SET ROLE"), ("RESET ROLE", "RESET ROLE"),
        ("SET SESSION AUTHORIZATION x", "SET SESSION"), ("ATTACH 'x' AS y", "ATTACH"),
        ("SET LOCAL ROLE postgres", "SET LOCAL"), ("SET SESSION ROLE postgres", "SET SESSION"),
        ("CREATE DATABASE a", "CREATE DATABASE"), ("alter database a reset all", "ALTER DATABASE"),
        ("DROP DATABASE a", "DROP DATABASE"), ("ALTER SYSTEM SET a = b", "ALTER SYSTEM"),
        ("COMMENT ON DATABASE a IS 'b'", "COMMENT ON DATABASE"),
        ("COPY a FROM PROGRAM 'b'", "PROGRAM"), ("COPY a TO STDOUT", "COPY TO STDOUT"),
        ("COPY (SELECT 1 FROM stdin) TO '/x'", None), ("COPY a (b) FROM stdin", "COPY FROM STDIN"),
        ('SET "role" = x', "SET ROLE"),
        ("SET session_authorization = x", "SET SESSION_AUTHORIZATION"),
        ("SET TRANSACTION READ ONLY", "SET TRANSACTION"), ("DISCARD ALL", "DISCARD ALL"),
        ("DISCARD PLANS", None), ("SET CONSTRAINTS ALL DEFERRED", None), ("\\d a", "\\d"),
        ("SELECT $1", "$1"),
        ("ALTER ROLE a SET b = c", None), ("COMMENT ON TABLE a IS 'DATABASE'", None),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CONCURRENTLY"), ("VACUUM", "VACUUM"),
        ("SELECT 'COMMIT'", None), ("PREPARE a AS SELECT 1", None), ('SELECT "commit"', None),
        ("CREATE TABLE commit_log (a int)", None), ("SET search_path = a", None),
    ],
)  # fmt: skip
def test_transaction_control_is_forbidden(sql: str, word: str | None) -> None:
    found = check_migration_sql(f"SELECT 1;\n{sql}", "postgresql", transactional=True)
    said = found.reason if found else None
    assert said == (f"line 2: {word} is not allowed in a migration" if word else None)


@pytest.mark.parametrize(
    ("engine", "sql", "transactional", "why"),
    [
        ("postgresql", "CREATE INDEX CONCURRENTLY i ON t (a)", True, RefusalKind.NOT_TRANSACTIONAL),
        ("postgresql", "CREATE INDEX CONCURRENTLY i ON t (a)", False, None),
        ("postgresql", "VACUUM a", True, RefusalKind.NOT_TRANSACTIONAL),
        ("postgresql", "VACUUM a", False, None),
        ("sqlite", "VACUUM", True, RefusalKind.NOT_TRANSACTIONAL),
        ("sqlite", "VACUUM", False, None),
        ("sqlite", "VACUUM INTO 'a'", False, RefusalKind.FORBIDDEN),
        ("sqlite", "REINDEX database", True, None),
        ("postgresql", "REINDEX database a", True, RefusalKind.NOT_TRANSACTIONAL),
        ("postgresql", "COMMIT", False, RefusalKind.FORBIDDEN),
        ("postgresql", "SELECT 1; SELECT 2", False, RefusalKind.NOT_SINGLE_STATEMENT),
        ("postgresql", "", False, RefusalKind.NOT_SINGLE_STATEMENT),
        ("postgresql", "", True, None),
        ("sqlite", "PRAGMA user_version = 1", True, None),
        ("sqlite", "PRAGMA writable_schema = 1", True, RefusalKind.FORBIDDEN),
        ("postgresql", "SET", True, None),
        ("postgresql", "PREPARE a AS SELECT $1", True, None),
    ],
)
def test_unsuitable_statement_is_refused(
    engine: str, sql: str, transactional: bool, why: RefusalKind | None
) -> None:
    found = check_migration_sql(sql, engine, transactional=transactional)
    assert (found.kind if found else None) is why


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT 1", None),
        ("SELECT count(delete) FROM a", None),
        ("SELECT count(*) FROM (SELECT 1) merge", None),
        ("WITH a AS (SELECT 1), b AS (TABLE a) SELECT 1 FROM (TABLE b) merge", None),
        ("DELETE FROM a", "line 1: DELETE is not allowed in a query"),
        ('"a"', "line 1: a quoted name is not allowed in a query"),
        ("WITH a AS MATERIALIZED (INSERT INTO b VALUES (1) RETURNING c) SELECT 1",
         "line 1: INSERT is not allowed in a query"),
        ("WITH a AS (SELECT 1) UPDATE b SET c = 1", "line 1: UPDATE is not allowed in a query"),
        ("SELECT 1\n\nFOR NO KEY UPDATE", "line 1: FOR NO is not allowed in a query"),
        ("SELECT 1; SELECT 2", "2 statements, where exactly one is allowed"),
    ],
)  # fmt: skip
def test_query_is_validated(sql: str, reason: str | None) -> None:
    expected = SqlRefusal(RefusalKind.NOT_A_QUERY, reason) if reason else None
    assert check_query_sql(sql, "postgresql") == expected


def test_verify_file_may_have_several_queries() -> None:
    assert check_verify_sql("SELECT 1; SELECT 2", "sqlite") is None
    assert check_verify_sql("SELECT 1;\nDROP TABLE a", "sqlite") is not None


@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
def test_parenthesised_query_is_accepted_where_supported(engine: str) -> None:
    """In a ``verify`` file on SQLite, too, where they are within the question for the number."""
    assert check_verify_sql("(SELECT 1)", engine) is None
    assert (check_query_sql("(SELECT 1)", engine) is None) == (engine == "postgresql")


def test_lexemes_ignore_formatting() -> None:
    one = list_lexemes("CREATE TABLE \"a\" ( b  int CHECK (b IN ('x')) ) -- c", "sqlite")
    assert one == list_lexemes("create table a(b INT check (b in ('x')))", "sqlite")
    assert one != list_lexemes("create table a(b INT check (b in ('y')))", "sqlite")
