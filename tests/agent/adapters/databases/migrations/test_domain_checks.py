"""Tests of domain checks: the query of each side, and its comparison."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.base import DatabaseEngine, LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.domain_checks import (
    CheckValue,
    _normalize_value,
    compare_checks,
    count_affected_rows,
    find_unmapped_references,
    run_checks,
)
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.messages import CHECK_RESULT_INVALID, QUERY_FAILED
from ncen_updater.formats.manifest import CheckRelation, CheckStage, DomainCheck, ReferenceMap
from tests.support.errors import refused


@pytest.fixture
def engine(tmp_path: Path) -> DatabaseEngine:
    directory = tmp_path / "sets" / "base"
    directory.mkdir(parents=True)
    with closing(sqlite3.connect(directory / "cases.sqlite")) as database:
        database.executescript(
            "CREATE TABLE item (code TEXT); INSERT INTO item VALUES ('A'), ('A'), ('B');"
        )
    (tmp_path / "live").symlink_to("sets/base")
    return SqliteEngine(tmp_path, ("cases",))


def check(sql: str = "SELECT 1", **more: object) -> DomainCheck:
    values = {"name": "all of it", "database": "cases", "sql": sql, **more}
    if "relation" not in more:
        values.setdefault("expect", 1)
    return DomainCheck.model_validate(values)


def test_each_side_is_checked_with_its_own_query(engine: DatabaseEngine) -> None:
    checks = [
        check(
            "SELECT count(*) FROM item", name="both", sql_after="SELECT 'x' || count(*) FROM item"
        ),
        check(name="first", when=CheckStage.BEFORE),
        check("SELECT NULL", name="last", when=CheckStage.AFTER),
    ]
    before = run_checks(engine, LiveDatabase, checks, CheckStage.BEFORE)
    assert before == {"both": 3, "first": 1}
    assert run_checks(engine, LiveDatabase, checks, CheckStage.AFTER) == {
        "both": "x3",
        "last": None,
    }


@pytest.mark.parametrize(
    ("sql", "shape"),
    [
        ("SELECT 1 WHERE 1 = 0", "0 x 0"),
        ("SELECT code FROM item", "3 x 1"),
        ("SELECT 1, 2", "1 x 2"),
    ],
)
def test_unexpected_result_shape_is_an_error(engine: DatabaseEngine, sql: str, shape: str) -> None:
    with refused(CHECK_RESULT_INVALID, match=shape):
        run_checks(engine, LiveDatabase, [check(sql)], CheckStage.BEFORE)
    both = [check(name="fine"), check("SELECT nothing", name="wrong")]
    with pytest.raises(DatabaseError) as caught:
        run_checks(engine, LiveDatabase, both, CheckStage.BEFORE)
    assert caught.value.message == QUERY_FAILED
    assert caught.value.values["sql"] == "SELECT nothing"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("x", "x"), (True, 1), (7, 7), (Decimal("12"), 12), (Decimal("-3"), -3),
     (Decimal("1.5"), "1.5"), (Decimal("10.50"), "10.5"), (Decimal("100.00"), 100), (2.0, 2),
     (Decimal("1E+3"), 1000), (Decimal("-0.00"), 0), (1e-7, "0.0000001"), (Decimal("NaN"), "NaN"),
     (Decimal("12345678901234567890123456789012.50"), "12345678901234567890123456789012.5")],
)  # fmt: skip
def test_driver_values_are_converted(value: object, expected: CheckValue) -> None:
    found = _normalize_value(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("relation", ["not-less", "not-more"])
@pytest.mark.parametrize("sql", ["SELECT '5'", "SELECT sum(1) WHERE 1 = 0", "SELECT 9e999"])
def test_ordered_values_must_be_numbers(engine: DatabaseEngine, sql: str, relation: str) -> None:
    with refused(CHECK_RESULT_INVALID, match=f"'{relation}' compares numbers only"):
        run_checks(engine, LiveDatabase, [check(sql, relation=relation)], CheckStage.BEFORE)
    equal = [check(sql, relation=CheckRelation.EQUAL)]
    assert run_checks(engine, LiveDatabase, equal, CheckStage.BEFORE)


def test_sums_of_decimals_are_compared_exactly(engine: DatabaseEngine) -> None:
    rising = check(
        "SELECT 9.5 FROM item LIMIT 1",
        sql_after="SELECT 10.25 FROM item LIMIT 1",
        relation=CheckRelation.NOT_LESS,
    )
    before = run_checks(engine, LiveDatabase, [rising], CheckStage.BEFORE)
    after = run_checks(engine, LiveDatabase, [rising], CheckStage.AFTER)
    assert compare_checks([rising], before, after) == ()
    (fallen,) = compare_checks([rising], after, before)
    assert "decreased from 10.25 to 9.5" in str(fallen.text)


@dataclass(frozen=True)
class Case:
    name: str
    check: DomainCheck
    before: CheckValue = None
    after: CheckValue = None
    holds: bool = True
    asked: str = "before after"


EQUAL, NOT_LESS, NOT_MORE = (check(relation=c) for c in (CheckRelation.EQUAL, *[
    c for c in CheckRelation if c is not CheckRelation.EQUAL]))  # fmt: skip
ONE = check(expect=1)

CASES = [
    Case("equal", EQUAL, 5, 5),
    Case("equal text", EQUAL, "a", "a"),
    Case("not equal", EQUAL, 5, 6, holds=False),
    Case("not less", NOT_LESS, 5, 5),
    Case("more", NOT_LESS, 5, 6),
    Case("less", NOT_LESS, 5, 4, holds=False),
    Case("sum rose", NOT_LESS, "9.5", 11),
    Case("sum fell by the last digit", NOT_LESS, "0.3", "0.29999999999999999", holds=False),
    Case("sum fell", NOT_MORE, "10.5", "9.75"),
    Case("not more", NOT_MORE, 5, 5),
    Case("fewer", NOT_MORE, 5, 4),
    Case("too many", NOT_MORE, 5, 6, holds=False),
    Case("expected", ONE, 1, 1),
    Case("only before", ONE, 1, 2, holds=False),
    Case("only after", ONE, 2, 1, holds=False),
    Case("text is no number", ONE, "1", 1, holds=False),
    Case("of one side", check(expect=1, when=CheckStage.AFTER), after=1, asked="after"),
    Case(
        "of one side, wrong",
        check(expect=1, when=CheckStage.AFTER),
        after=2,
        asked="after",
        holds=False,
    ),
    Case("not asked after", EQUAL, 5, 5, asked="before", holds=False),
    Case("not asked before", EQUAL, 5, 5, asked="after", holds=False),
    Case("not asked at all", ONE, asked="", holds=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_check_results_are_compared(case: Case) -> None:
    name = case.check.name
    before = {name: case.before} if "before" in case.asked else {}
    after = {name: case.after} if "after" in case.asked else {}
    failures = compare_checks([case.check], before, after)
    assert (not failures) is case.holds
    for failure in failures:
        assert (failure.check, failure.database) == (name, "cases")
        assert (failure.before, failure.after) == (before.get(name), after.get(name))
        assert "{" not in str(failure.text)
        assert name in str(failure.text)
        # Seen: a French sentence with "must be equal" in it.
        assert failure.text.render("fr").startswith(("le résultat du contrôle « ", "contrôle « "))


def test_unmapped_rows_are_counted(engine: DatabaseEngine) -> None:
    def codes(sql: str) -> ReferenceMap:
        return ReferenceMap(name="old codes", database="cases", unmapped=sql, strict=True)

    grouped = codes("SELECT code, count(*) FROM item GROUP BY code ORDER BY code")
    (found,) = find_unmapped_references(
        engine, LiveDatabase, [grouped, codes("SELECT 1, 1 WHERE 1 = 0")]
    )
    assert (found.rows, found.strict) == ((("A", 2), ("B", 1)), True)
    for sql in ("SELECT code FROM item", "SELECT code, code FROM item"):
        with refused(CHECK_RESULT_INVALID, match="a code and a number of rows"):
            find_unmapped_references(engine, LiveDatabase, [codes(sql)])


def test_affected_rows_must_be_one_number(engine: DatabaseEngine) -> None:
    """Seen: NULL, a sum over no row, ended a rehearsal as an unexpected error."""

    def codes(affected: str | None) -> ReferenceMap:
        return ReferenceMap(
            name="old codes", database="cases", unmapped="SELECT 1, 1", affected=affected
        )

    assert count_affected_rows(engine, LiveDatabase, codes(None)) is None
    assert count_affected_rows(engine, LiveDatabase, codes("SELECT count(*) FROM item")) == 3
    for sql in (
        "SELECT sum(code) FROM item WHERE code = 'Z'",
        "SELECT code FROM item WHERE code = 'B'",
        "SELECT 1 WHERE 1 = 0",
        "SELECT 1, 2",
    ):
        with refused(CHECK_RESULT_INVALID):
            count_affected_rows(engine, LiveDatabase, codes(sql))
