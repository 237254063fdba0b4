"""Tests of the verdicts of the round-trip test, without any database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from ncen_updater.agent.adapters.databases.round_trip import (
    ColumnRoundTrip,
    DatabaseSample,
    RoundTripObservation,
    RoundTripResult,
    TableSample,
    UntestedReason,
    find_retyped_columns,
    find_undeclared_losses,
    judge_columns,
    make_similar_texts,
    make_test_texts,
)
from ncen_updater.formats.data_loss import DataLoss, LossKind, parse_declared_loss

Row = Mapping[str, str | None]
KEY = ("1",)


def of(**row: str | None) -> DatabaseSample:
    """A table with one row."""
    whole = {"id": "1", **row}
    return {"t": TableSample(("id",), dict.fromkeys(whole, "text"), {KEY: whole})}


def without_row(**types: str) -> DatabaseSample:
    return {"t": TableSample(("id",), {"id": "text", **types})}


def seen(
    older: DatabaseSample,
    plain: DatabaseSample,
    written: DatabaseSample,
    back: DatabaseSample | None,
    again: DatabaseSample | None,
) -> dict[str, ColumnRoundTrip]:
    sight = RoundTripObservation(older, plain, written, {}, back, again)
    return {found.column: found for found in judge_columns("d", sight)}


M = "mark"


@pytest.mark.parametrize(
    ("older", "plain", "back", "again", "expected"),
    [
        # An old column.
        (of(c="a"), of(c="a"), of(c=M), of(c=M), "preserved"),
        (of(c="a"), of(c="a"), of(c=M), of(c="other"), "preserved"),
        (of(c="a"), of(c="a"), of(c="ma"), of(c="ma"), "lost"),
        (of(c="a"), of(c="a"), of(c="ma"), of(c=M), "restored"),
        (of(c="a"), of(c="a"), without_row(c="text"), of(c=M), "restored"),
        # Elsewhere is not where the old release looks for it.
        (of(c="a", d="b"), of(c="a", d="b"), of(c="a", d=M), of(c="a", d=M), "lost"),
        # A new column.
        (of(), of(c=None), of(), of(c=None), "lost"),
        (of(), of(c=None), of(), of(c=M), "restored"),
        (of(d="b"), of(c=None, d="b"), of(d=M), of(c=M), "restored"),
        (of(b="a"), of(c="a"), of(b=M), of(c=M), "preserved"),
        (of(b="a"), of(c="a"), of(b=M), of(c="a"), "lost"),
        # A new table.
        ({}, of(c="a"), {}, {}, "lost"),
        ({}, of(c="a"), {}, of(c="a"), "lost"),
        ({}, of(c="a"), {}, of(c=M), "restored"),
        # Written by the release itself.
        (of(c="3.2"), of(c="3.3"), of(c="3.2"), of(c="3.3"), UntestedReason.WRITTEN_BY_RELEASE),
        (of(c="3.2"), of(c="3.3"), of(c="3.2"), of(c="3.4"), "lost"),
        (without_row(c="text"), of(c="a"), without_row(c="text"), of(c="a"),
         UntestedReason.WRITTEN_BY_RELEASE),
        # A way that did not go.
        (of(c="a"), of(c="a"), None, None, UntestedReason.NOT_COMPLETED),
        (of(), of(c=None), of(), None, UntestedReason.NOT_COMPLETED),
        (of(c="a"), of(c="a"), of(c=M), None, "preserved"),
        (of(b="a"), of(c="a"), of(b=M), None, "preserved"),
    ],
)  # fmt: skip
def test_round_trip_value_is_classified(
    older: DatabaseSample,
    plain: DatabaseSample,
    back: DatabaseSample | None,
    again: DatabaseSample | None,
    expected: str,
) -> None:
    written = of(**{**dict(plain["t"].rows[KEY]), "c": M})
    found = seen(older, plain, written, back, again)["d.t.c"]
    if isinstance(expected, UntestedReason):
        assert dict(found.untested) == {expected: 1}
        assert found.preserved == found.restored == found.lost == 0
    else:
        assert getattr(found, expected) == 1
        assert found.preserved + found.restored + found.lost == 1
        assert not found.untested


def test_refused_values_are_not_guessed() -> None:
    plain = of(c="a", d=None)
    refusals = {
        "t": {"c": Counter({UntestedReason.REFUSED: 1}), "d": Counter({UntestedReason.TYPE: 1})}
    }
    sight = RoundTripObservation(of(), plain, plain, refusals, of(), of())
    found = {column.column: dict(column.untested) for column in judge_columns("d", sight)}
    assert found == {
        "d.t.id": {UntestedReason.KEY: 1},
        "d.t.c": {UntestedReason.REFUSED: 1},
        "d.t.d": {UntestedReason.TYPE: 1},
    }


def test_table_without_key_or_rows_is_reported() -> None:
    no_key = {"t": TableSample((), {"c": "text"})}
    (found,) = judge_columns("d", RoundTripObservation({}, no_key, no_key, {}, {}, {}))
    assert dict(found.untested) == {UntestedReason.NO_KEY: 1}
    empty = without_row(c="text")
    columns = list(judge_columns("d", RoundTripObservation({}, empty, empty, {}, {}, {})))
    assert [dict(column.untested) for column in columns] == [{UntestedReason.EMPTY: 1}] * 2
    assert RoundTripResult(tuple(columns)).count_untested == {UntestedReason.EMPTY: 2}


def test_column_whose_rollback_failed_is_reported() -> None:
    older, plain = of(c="a"), of(c="a")
    sight = RoundTripObservation(
        older, plain, of(c="m"), {}, of(c="m"), of(c="m"), {"t": frozenset({"c"})}
    )
    found = {column.column: column.refused for column in judge_columns("d", sight)}
    assert found == {"d.t.id": 0, "d.t.c": 1}


def test_only_retyped_columns_are_suspects() -> None:
    older = {"t": TableSample(("id",), {"a": "varchar(20)", "b": "text"})}
    newer = {
        "t": TableSample(("id",), {"a": "varchar(200)", "b": "text", "c": "text"}),
        "u": TableSample(("id",), {"a": "text"}),
    }
    assert find_retyped_columns(older, newer) == {"t": {"a"}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [([], ("d.t.c",)), (["t.c"], ()), (["T.C"], ()), (["t"], ()), (["t.other", "u"], ("d.t.c",))],
)
def test_undeclared_losses_are_found(said: list[str], expected: tuple[str, ...]) -> None:
    columns = [ColumnRoundTrip("d.t.c", lost=2), ColumnRoundTrip("d.t.preserved", preserved=2)]
    assert (
        find_undeclared_losses(columns, {"d": [parse_declared_loss(name) for name in said]})
        == expected
    )
    assert find_undeclared_losses(columns, {"e": [parse_declared_loss("t.c")]}) == ("d.t.c",)
    # What follows by a key is counted, and cannot be named.
    assert find_undeclared_losses(columns, {"d": [DataLoss("other", None, LossKind.ROWS)]}) == ()


def test_similar_text_fits_and_is_no_real_value() -> None:
    texts = {make_test_texts("0", "c", row, 12)[0] for row in range(25)}
    assert len(texts) == 25
    assert make_test_texts("0", "c", 1, None)[0] != make_test_texts("0", "d", 1, None)[0]
    for width in (1, 2, 8, 20):
        assert all(0 < len(text) <= width for text in make_test_texts("0", "c", 3, width))
    assert make_similar_texts("2024-05-06T07:08", 3) == ("1987-03-04T07:08",)
    assert make_similar_texts("0042", 3) == ("0003",)
    assert make_similar_texts("free text", 3) == make_similar_texts(None, 3) == ()


def test_result_survives_serialisation() -> None:
    values = RoundTripResult(
        (ColumnRoundTrip("d.t.c", preserved=1, lost=2, untested={UntestedReason.REFUSED: 3}),),
        "stopped",
    )
    assert RoundTripResult.from_json(values.to_json()) == values
    assert values.list_columns("lost") == ("d.t.c",)
    assert values.count_values("lost") == 2
