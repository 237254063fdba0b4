"""Tests of the domain checks of a down migration: those of the release, in reverse."""

from __future__ import annotations

import pytest

from ncen_updater.agent.adapters.databases.migrations.domain_checks import compare_checks
from ncen_updater.agent.engine.migration import _reverse_checks
from ncen_updater.formats.manifest import CheckRelation, DomainCheck


@pytest.mark.parametrize(
    ("relation", "newer", "older", "holds"),
    [
        (CheckRelation.EQUAL, 5, 5, True),
        (CheckRelation.EQUAL, 5, 4, False),
        (CheckRelation.NOT_LESS, 5, 4, True),
        (CheckRelation.NOT_LESS, 4, 5, False),
        (CheckRelation.NOT_MORE, 4, 5, True),
        (CheckRelation.NOT_MORE, 5, 4, False),
    ],
)
def test_down_migration_reverses_relation(
    relation: CheckRelation, newer: int, older: int, *, holds: bool
) -> None:
    check = DomainCheck(
        name="cases", database="cases", sql="SELECT 1", sql_after="SELECT 2", relation=relation
    )
    (reverse,) = _reverse_checks([check])
    assert (reverse.sql, reverse.sql_after) == ("SELECT 2", "SELECT 1")
    failures = compare_checks([reverse], {"cases": newer}, {"cases": older})
    assert (not failures) is holds
