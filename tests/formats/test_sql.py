from __future__ import annotations

import pytest

from ncen_updater.formats.sql import forbidden, lexemes, split

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
]
ALL = [(e, *c) for e in ("postgresql", "sqlite") for c in BOTH]
ALL += [("postgresql", *c) for c in POSTGRESQL] + [("sqlite", *c) for c in SQLITE]


@pytest.mark.parametrize(("engine", "sql", "expected"), ALL)
def test_split(engine: str, sql: str, expected: list[str]) -> None:
    found = [s.text for s in split(sql, engine)]
    # A comment at the end of a statement is left out.
    assert found == [e.removesuffix(" /* /* ; */ ; */") for e in expected]


def test_lines() -> None:
    assert [s.line for s in split("a\n;\n-- c\n\nb 'x\ny';c", "sqlite")] == [1, 5, 6]


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
        ("COPY a FROM PROGRAM 'b'", "PROGRAM"), ("COPY a TO STDOUT", None),
        ("ALTER ROLE a SET b = c", None), ("COMMENT ON TABLE a IS 'DATABASE'", None),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CONCURRENTLY"), ("VACUUM", "VACUUM"),
        ("SELECT 'COMMIT'", None), ("PREPARE a AS SELECT 1", None), ('SELECT "commit"', None),
        ("CREATE TABLE commit_log (a int)", None), ("SET search_path = a", None),
    ],
)  # fmt: skip
def test_forbidden(sql: str, word: str | None) -> None:
    assert forbidden(split(sql, "postgresql")[0], transactional=True) == word


def test_alone_more_is_allowed() -> None:
    for sql in ("CREATE INDEX CONCURRENTLY i ON t (a)", "VACUUM"):
        assert forbidden(split(sql, "postgresql")[0], transactional=False) is None
    assert forbidden(split("COMMIT", "postgresql")[0], transactional=False) == "COMMIT"


def test_lexemes_know_no_form() -> None:
    one = lexemes("CREATE TABLE \"a\" ( b  int CHECK (b IN ('x')) ) -- c", "sqlite")
    assert one == lexemes("create table a(b INT check (b in ('x')))", "sqlite")
    assert one != lexemes("create table a(b INT check (b in ('y')))", "sqlite")
