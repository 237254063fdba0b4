"""Whatever TOML can hold is read as it was written."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, date, datetime, time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ncen_updater.common.toml_writer import render_toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = (
    TEXTS
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.sampled_from([None, UTC]))
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=12
)
HARD = "quo\"te, 'one', back\\slash, new\nline, \r\n, \t, \x00, \x1f, \x7f, \x85, \u2028, é"


@given(st.dictionaries(TEXTS, VALUES))
@example({HARD: HARD, "inner": {HARD: [HARD, {HARD: HARD}]}, "": {"": {"a.b": ""}}})
@example({"after": {"x": 1}, "plain": float("inf"), "at": [date(2026, 1, 2), time(22)]})
@example({"d": {"e": {}}, "f": [datetime(2026, 1, 2, tzinfo=UTC)]})
def test_document_round_trips(tables: dict[str, object]) -> None:
    text = render_toml(tables, "A comment.")
    assert tomllib.loads(text) == tables
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_none_values_are_omitted() -> None:
    assert tomllib.loads(render_toml({"a": None, "b": {"c": None}})) == {"b": {}}


def test_unsupported_values_are_refused() -> None:
    with pytest.raises(TypeError):
        render_toml({"a": [None]})
