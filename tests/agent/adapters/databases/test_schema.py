"""Tests of telling a changed schema from the application's own objects: a table."""

from __future__ import annotations

import pytest

from ncen_updater.agent.adapters.databases.schema import (
    FORMAT_KEY,
    KINDS_OUTSIDE_FINGERPRINT,
    SchemaKind,
    build_schema_digest,
    find_changed_kinds,
    format_kinds,
)
from ncen_updater.agent.engine.schema_fingerprints import SchemaDrift, judge_drift
from ncen_updater.formats.manifest import SelfManagedObject

INDEXES, COLUMNS = SchemaKind.INDEXES, SchemaKind.COLUMNS
FUNCTIONS, RULES = SchemaKind.FUNCTIONS, SchemaKind.RULES
NOBODY: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("same", "kinds", "declared", "expected"),
    [
        (True, (), NOBODY, None),
        (True, None, ("indexes",), None),
        (True, (INDEXES,), NOBODY, None),
        (True, (RULES,), ("indexes",), SchemaDrift((RULES,))),
        (False, None, NOBODY, SchemaDrift(None)),
        (False, None, ("indexes", "columns"), SchemaDrift(None)),
        (False, (), ("indexes",), SchemaDrift(None)),
        (False, (INDEXES,), NOBODY, SchemaDrift((INDEXES,))),
        (False, (INDEXES,), ("columns",), SchemaDrift((INDEXES,))),
        (False, (INDEXES,), ("indexes",), SchemaDrift((INDEXES,), declared=True)),
        (False, (INDEXES, COLUMNS), ("indexes",), SchemaDrift((INDEXES, COLUMNS))),
        (False, (INDEXES, FUNCTIONS), ("indexes",), SchemaDrift((INDEXES, FUNCTIONS))),
        (False, (INDEXES, RULES), ("indexes",), SchemaDrift((INDEXES, RULES))),
    ],
)
def test_schema_drift_is_attributed(
    same: bool,
    kinds: tuple[SchemaKind, ...] | None,
    declared: tuple[str, ...],
    expected: SchemaDrift | None,
) -> None:
    assert judge_drift(same=same, kinds=kinds, declared=declared) == expected


def test_declarable_kinds_hold_no_data() -> None:
    assert [kind.value for kind in SchemaKind][:5] == [kind.value for kind in SelfManagedObject]
    assert not {kind.value for kind in KINDS_OUTSIDE_FINGERPRINT} & {
        kind.value for kind in SelfManagedObject
    }


def test_removed_objects_count_as_changed_and_other_formats_are_not_compared() -> None:
    two = build_schema_digest([(INDEXES, "a"), (COLUMNS, "b")], ["a", "b"])
    one = build_schema_digest([(COLUMNS, "b")], ["b"])
    assert (
        find_changed_kinds(two.kinds, one.kinds)
        == find_changed_kinds(one.kinds, two.kinds)
        == (INDEXES,)
    )
    assert find_changed_kinds({}, one.kinds) is None
    assert find_changed_kinds({**two.kinds, FORMAT_KEY: "0"}, one.kinds) is None


def test_kinds_are_translated() -> None:
    words = format_kinds([FUNCTIONS, INDEXES])
    assert words.render("en") == "indexes, functions"
    assert words.render("fr") == "index, fonctions"
