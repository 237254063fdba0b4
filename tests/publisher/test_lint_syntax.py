"""Tests that syntax errors are found, without false alarms."""

from __future__ import annotations

import pytest

from ncen_updater.publisher.lint.sql_rules import find_syntax_errors


@pytest.mark.parametrize(
    ("sql", "mistake"),
    [
        ("SELECT * FROM nothing_there; DELETE FROM a WHERE b = no_function()", None),
        ("SELECT 1;\nSELEC 2;", 'line 2: near "SELEC": syntax error'),
        ("SELECT (1", "line 1: incomplete input"),
        ("SELECT 'a", "line 1: unrecognized token: \"'a\""),
        ("EXPLAIN QUERY PLAN SELECT 1", None),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END", None),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELET b; END",
         'line 1: near "DELET": syntax error'),
        ("CREATE TRIGGER t AFTER INSERT ON sqlite_x BEGIN DELETE FROM b; END", None),
        ("CREATE TEMP TRIGGER t AFTER INSERT ON temp.a BEGIN DELETE FROM b; END", None),
        ("CREATE TRIGGER x.t AFTER INSERT ON a BEGIN DELETE FROM b; END", None),
    ],
)  # fmt: skip
def test_sqlite_syntax_errors_are_found(sql: str, mistake: str | None) -> None:
    assert find_syntax_errors("sqlite", [(sql, False)]) == (
        {(sql, False): mistake} if mistake else {}
    )


def test_postgresql_syntax_errors_are_found() -> None:
    bad, good = "SELECT 1;\n\nSELEC 2;\nSELEC 3", "CREATE INDEX ON nothing_there (a); DROP TABLE b"
    found = find_syntax_errors(
        "postgresql",
        [(sql, False) for sql in (good, bad, bad, "", "-- squawk-ignore-file\nSELEC 1")],
    )
    assert found[bad, False] == "line 3: syntax error: expected command, found IDENT"
    assert len(found) == 2
    assert find_syntax_errors("postgresql", []) == {}
