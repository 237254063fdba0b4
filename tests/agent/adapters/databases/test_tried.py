"""What became of values written on trial: the decisions, without any database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from ncen_updater.agent.adapters.databases.tried import (
    Sample,
    SampledTable,
    Sight,
    TriedColumn,
    TriedValues,
    Untried,
    alike,
    judge,
    retyped,
    tried_text,
    untold,
)
from ncen_updater.formats.losses import How, Loss, declared

Row = Mapping[str, str | None]
KEY = ("1",)


def of(**row: str | None) -> Sample:
    """A table with one row."""
    whole = {"id": "1", **row}
    return {"t": SampledTable(("id",), dict.fromkeys(whole, "text"), {KEY: whole})}


def without_row(**types: str) -> Sample:
    return {"t": SampledTable(("id",), {"id": "text", **types})}


def seen(
    older: Sample, plain: Sample, written: Sample, back: Sample | None, again: Sample | None
) -> dict[str, TriedColumn]:
    sight = Sight(older, plain, written, {}, back, again)
    return {found.column: found for found in judge("d", sight)}


M = "mark"


@pytest.mark.parametrize(
    ("older", "plain", "back", "again", "expected"),
    [
        # An old column.
        (of(c="a"), of(c="a"), of(c=M), of(c=M), "kept"),
        (of(c="a"), of(c="a"), of(c=M), of(c="other"), "kept"),
        (of(c="a"), of(c="a"), of(c="ma"), of(c="ma"), "lost"),
        (of(c="a"), of(c="a"), of(c="ma"), of(c=M), "came_back"),
        (of(c="a"), of(c="a"), without_row(c="text"), of(c=M), "came_back"),
        # Elsewhere is not where the old release looks for it.
        (of(c="a", d="b"), of(c="a", d="b"), of(c="a", d=M), of(c="a", d=M), "lost"),
        # A new column.
        (of(), of(c=None), of(), of(c=None), "lost"),
        (of(), of(c=None), of(), of(c=M), "came_back"),
        (of(d="b"), of(c=None, d="b"), of(d=M), of(c=M), "came_back"),
        (of(b="a"), of(c="a"), of(b=M), of(c=M), "kept"),
        (of(b="a"), of(c="a"), of(b=M), of(c="a"), "lost"),
        # A new table.
        ({}, of(c="a"), {}, {}, "lost"),
        ({}, of(c="a"), {}, of(c="a"), "lost"),
        ({}, of(c="a"), {}, of(c=M), "came_back"),
        # What the release writes by itself.
        (of(c="3.2"), of(c="3.3"), of(c="3.2"), of(c="3.3"), Untried.OWN),
        (of(c="3.2"), of(c="3.3"), of(c="3.2"), of(c="3.4"), "lost"),
        (without_row(c="text"), of(c="a"), without_row(c="text"), of(c="a"), Untried.OWN),
        # A way that did not go.
        (of(c="a"), of(c="a"), None, None, Untried.UNSEEN),
        (of(), of(c=None), of(), None, Untried.UNSEEN),
        (of(c="a"), of(c="a"), of(c=M), None, "kept"),
        (of(b="a"), of(c="a"), of(b=M), None, "kept"),
    ],
)  # fmt: skip
def test_what_became_of_a_value(
    older: Sample, plain: Sample, back: Sample | None, again: Sample | None, expected: str
) -> None:
    written = of(**{**dict(plain["t"].rows[KEY]), "c": M})
    found = seen(older, plain, written, back, again)["d.t.c"]
    if isinstance(expected, Untried):
        assert dict(found.untried) == {expected: 1}
        assert found.kept == found.came_back == found.lost == 0
    else:
        assert getattr(found, expected) == 1
        assert found.kept + found.came_back + found.lost == 1
        assert not found.untried


def test_what_was_refused_is_not_guessed() -> None:
    plain = of(c="a", d=None)
    refusals = {"t": {"c": Counter({Untried.REFUSED: 1}), "d": Counter({Untried.TYPE: 1})}}
    sight = Sight(of(), plain, plain, refusals, of(), of())
    found = {column.column: dict(column.untried) for column in judge("d", sight)}
    assert found == {
        "d.t.id": {Untried.KEY: 1}, "d.t.c": {Untried.REFUSED: 1}, "d.t.d": {Untried.TYPE: 1},
    }  # fmt: skip


def test_a_table_without_a_key_or_rows_says_so() -> None:
    no_key = {"t": SampledTable((), {"c": "text"})}
    (found,) = judge("d", Sight({}, no_key, no_key, {}, {}, {}))
    assert dict(found.untried) == {Untried.NO_KEY: 1}
    empty = without_row(c="text")
    columns = list(judge("d", Sight({}, empty, empty, {}, {}, {})))
    assert [dict(column.untried) for column in columns] == [{Untried.EMPTY: 1}] * 2
    assert TriedValues(tuple(columns)).untried == {Untried.EMPTY: 2}


def test_a_column_with_which_the_way_back_does_not_go() -> None:
    older, plain = of(c="a"), of(c="a")
    sight = Sight(older, plain, of(c="m"), {}, of(c="m"), of(c="m"), {"t": frozenset({"c"})})
    found = {column.column: column.refused for column in judge("d", sight)}
    assert found == {"d.t.id": 0, "d.t.c": 1}


def test_only_another_type_makes_a_suspect() -> None:
    older = {"t": SampledTable(("id",), {"a": "varchar(20)", "b": "text"})}
    newer = {
        "t": SampledTable(("id",), {"a": "varchar(200)", "b": "text", "c": "text"}),
        "u": SampledTable(("id",), {"a": "text"}),
    }
    assert retyped(older, newer) == {"t": {"a"}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [([], ("d.t.c",)), (["t.c"], ()), (["T.C"], ()), (["t"], ()), (["t.other", "u"], ("d.t.c",))],
)
def test_what_nobody_says(said: list[str], expected: tuple[str, ...]) -> None:
    columns = [TriedColumn("d.t.c", lost=2), TriedColumn("d.t.kept", kept=2)]
    assert untold(columns, {"d": [declared(name) for name in said]}) == expected
    assert untold(columns, {"e": [declared("t.c")]}) == ("d.t.c",)
    # What follows by a key is counted, and cannot be named.
    assert untold(columns, {"d": [Loss("other", None, How.ROWS)]}) == ()


def test_a_text_fits_and_is_nobody_elses() -> None:
    texts = {tried_text("0", "c", row, 12)[0] for row in range(25)}
    assert len(texts) == 25
    assert tried_text("0", "c", 1, None)[0] != tried_text("0", "d", 1, None)[0]
    for width in (1, 2, 8, 20):
        assert all(0 < len(text) <= width for text in tried_text("0", "c", 3, width))
    assert alike("2024-05-06T07:08", 3) == ("1987-03-04T07:08",)
    assert alike("0042", 3) == ("0003",)
    assert alike("free text", 3) == alike(None, 3) == ()


def test_it_is_read_as_it_was_written() -> None:
    values = TriedValues(
        (TriedColumn("d.t.c", kept=1, lost=2, untried={Untried.REFUSED: 3}),), "stopped"
    )
    assert TriedValues.from_json(values.to_json()) == values
    assert values.named("lost") == ("d.t.c",)
    assert values.total("lost") == 2
