"""What is a changed schema, and what an application's own doing: the table of it."""

from __future__ import annotations

import pytest

from ncen_updater.agent.adapters.databases.schema import (
    BESIDE,
    FORM,
    SchemaKind,
    changed_kinds,
    kind_words,
    make_schema,
)
from ncen_updater.agent.engine.fingerprints import Changed, judged
from ncen_updater.formats.manifest import ChangedItself

INDEXES, COLUMNS = SchemaKind.INDEXES, SchemaKind.COLUMNS
FUNCTIONS, RULES = SchemaKind.FUNCTIONS, SchemaKind.RULES
NOBODY: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("same", "kinds", "declared", "expected"),
    [
        (True, (), NOBODY, None),
        (True, None, ("indexes",), None),
        (True, (INDEXES,), NOBODY, None),
        (True, (RULES,), ("indexes",), Changed((RULES,))),
        (False, None, NOBODY, Changed(None)),
        (False, None, ("indexes", "columns"), Changed(None)),
        (False, (), ("indexes",), Changed(None)),
        (False, (INDEXES,), NOBODY, Changed((INDEXES,))),
        (False, (INDEXES,), ("columns",), Changed((INDEXES,))),
        (False, (INDEXES,), ("indexes",), Changed((INDEXES,), by_itself=True)),
        (False, (INDEXES, COLUMNS), ("indexes",), Changed((INDEXES, COLUMNS))),
        (False, (INDEXES, FUNCTIONS), ("indexes",), Changed((INDEXES, FUNCTIONS))),
        (False, (INDEXES, RULES), ("indexes",), Changed((INDEXES, RULES))),
    ],
)
def test_who_changed_a_schema(
    same: bool,
    kinds: tuple[SchemaKind, ...] | None,
    declared: tuple[str, ...],
    expected: Changed | None,
) -> None:
    assert judged(same=same, kinds=kinds, declared=declared) == expected


def test_kinds_that_can_be_declared_are_those_that_hold_data() -> None:
    assert [kind.value for kind in SchemaKind][:5] == [kind.value for kind in ChangedItself]
    assert not {kind.value for kind in BESIDE} & {kind.value for kind in ChangedItself}


def test_what_is_gone_is_changed_too_and_another_form_is_not_compared() -> None:
    two = make_schema([(INDEXES, "a"), (COLUMNS, "b")], ["a", "b"])
    one = make_schema([(COLUMNS, "b")], ["b"])
    assert changed_kinds(two.kinds, one.kinds) == changed_kinds(one.kinds, two.kinds) == (INDEXES,)
    assert changed_kinds({}, one.kinds) is None
    assert changed_kinds({**two.kinds, FORM: "0"}, one.kinds) is None


def test_kinds_are_named_in_the_language_of_the_reader() -> None:
    words = kind_words([FUNCTIONS, INDEXES])
    assert words.render("en") == "indexes, functions"
    assert words.render("fr") == "index, fonctions"
