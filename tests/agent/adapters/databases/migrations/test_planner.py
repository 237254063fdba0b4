from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    MigrationDirection,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.planner import (
    find_irreversible_downs,
    plan_database_migrations,
    reduce_ledger,
)
from ncen_updater.agent.model.errors import MigrationRefusedError
from tests.agent.adapters.databases.migrations.factories import make, row

UP, DOWN = MigrationDirection.UP, MigrationDirection.DOWN


def item(name: str, *, way_down: bool = True) -> SqlMigration:
    """A migration of which no file exists; the planner is given a reader."""
    with tempfile.TemporaryDirectory() as directory:
        return make(Path(directory), name, f"-- {name}", f"-- not {name}" if way_down else None)


A, B, C, D = (item(f"000{i}") for i in range(1, 5))
ONE_WAY = item("0005", way_down=False)
EDITED_B = replace(B, up_sha256="f" * 64)


@dataclass(frozen=True)
class Case:
    name: str
    applied: Sequence[AppliedMigration]
    target: Sequence[SqlMigration]
    origin: Sequence[SqlMigration] | None = None
    steps: str = ""
    refused: str = ""
    irreversible: str = ""
    barred: bool = False


CASES = [
    Case("new database", [], [A, B], steps="+1 +2"),
    Case("nothing to do", [row(A), row(B)], [A, B]),
    Case("two more", [row(A)], [A, B, C], steps="+2 +3"),
    Case("down", [row(A), row(B), row(C)], [A], [A, B, C], steps="-3 -2"),
    Case("down to nothing", [row(A), row(B)], [], [A, B], steps="-2 -1"),
    Case("applied and undone", [row(A), row(B), row(B, DOWN)], [A, B], steps="+2"),
    Case("undone and applied", [row(A), row(A, DOWN), row(A)], [A]),
    Case("branch", [row(A), row(C)], [A, B], [A, C], steps="-3 +2"),
    Case("edited in target", [row(A), row(B)], [A, EDITED_B], refused="edited"),
    Case("edited in origin", [row(A), row(B)], [A], [A, EDITED_B], refused="edited"),
    Case("edited in origin only", [row(B)], [B], [EDITED_B], refused="edited"),
    Case("unknown", [row(A), row(D)], [A, B], [A, B], refused="unknown"),
    Case("unknown without origin", [row(A), row(B)], [A], refused="unknown"),
    Case("gap", [row(A), row(C)], [A, B, C], refused="gap"),
    Case("taken out below", [row(A), row(B), row(C)], [A, C], [A, B, C], refused="out_of_order"),
    Case("applied twice", [row(A), row(A)], [A], refused="ledger_broken"),
    Case("undone, never applied", [row(A, DOWN)], [A], refused="ledger_broken"),
    Case(
        "reverted before a later", [row(A), row(B), row(A, DOWN)], [A, B], refused="ledger_broken"
    ),
    Case("one way up", [], [ONE_WAY], steps="+5", irreversible="5"),
    Case("no way down", [row(ONE_WAY)], [], [ONE_WAY], irreversible="5", barred=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_plan_contains_the_expected_steps(case: Case) -> None:
    def plan() -> str:
        made = plan_database_migrations(
            "cases", case.applied, case.target, case.origin, read=lambda p: p.name
        )
        assert " ".join(entry[1][-1] for entry in made.irreversible) == case.irreversible
        assert bool(find_irreversible_downs(made)) is case.barred
        assert all(s.sql == s.path.name and s.direction in s.sql for s in made.steps)
        assert all(s.database == "cases" for s in made.steps)
        known = {(UP, m.migration.id): m.up_sha256 for m in case.target}
        known |= {(DOWN, m.migration.id): str(m.down_sha256) for m in case.origin or ()}
        assert all(s.sha256 == known[s.direction, s.id] for s in made.steps)
        return " ".join(f"{'+' if s.direction is UP else '-'}{s.id[-1]}" for s in made.steps)

    if case.refused:
        with pytest.raises(MigrationRefusedError) as caught:
            plan()
        assert caught.value.values["kind"] == case.refused
        assert caught.value.values["database"] == "cases"
        assert caught.value.values["migration"]
        assert "{" not in str(caught.value)
    else:
        assert plan() == case.steps


@pytest.mark.parametrize(
    ("applied", "target", "named"),
    [([A, C], [A, B, C], "0002"), ([A, B, C], [A, C], "0002"), ([A, D], [A, B], "0004")],
    ids=["gap", "out of order", "unknown"],
)
def test_refused_plan_names_the_migration(
    applied: list[SqlMigration], target: list[SqlMigration], named: str
) -> None:
    ledger = [row(migration) for migration in applied]
    with pytest.raises(MigrationRefusedError) as caught:
        plan_database_migrations("cases", ledger, target, [A, B, C], read=str)
    assert caught.value.values["migration"] == named


def test_missing_down_migration_is_explained_in_both_directions() -> None:
    reason = ONE_WAY.migration.irreversible
    assert reason
    up = plan_database_migrations("cases", [], [ONE_WAY], None, read=str)
    down = plan_database_migrations("cases", [row(ONE_WAY)], [], [ONE_WAY], read=str)
    assert up.irreversible == down.irreversible == (("cases", "0005", reason),)


def test_planned_sql_is_the_file_content(tmp_path: Path) -> None:
    migration = make(tmp_path, "0001", "SELECT 'é';", "SELECT 2;")
    (step,) = plan_database_migrations("cases", [], [migration], None).steps
    assert step.sql == "SELECT 'é';"


def after(applied: Sequence[AppliedMigration], plan: Sequence[object]) -> list[AppliedMigration]:
    found = list(applied)
    for step in plan:
        found.append(
            AppliedMigration(step.id, step.direction, step.sha256, "2", "b", "t")  # type: ignore[attr-defined]
        )
    return found


histories = st.lists(st.sampled_from(range(8)), unique=True, max_size=8).map(sorted)
POOL = [item(f"{i:04}") for i in range(8)]


@settings(max_examples=150, deadline=None)
@given(old=histories, new=histories)
def test_plan_never_applies_twice_and_rollback_restores_the_ledger(
    old: list[int], new: list[int]
) -> None:
    origin, target = [POOL[i] for i in old], [POOL[i] for i in new]
    ledger = after([], plan_database_migrations("x", [], origin, None, read=str).steps)
    try:
        there = plan_database_migrations("x", ledger, target, origin, read=str).steps
    except MigrationRefusedError:
        shared = [i for i in old if i in new]
        assert shared != old[: len(shared)] or shared != new[: len(shared)]
        return
    standing = {r.id for r in reduce_ledger("x", ledger)}
    for step in there:
        assert (step.id in standing) is (step.direction is DOWN)
        standing ^= {step.id}
    arrived = after(ledger, there)
    assert [r.id for r in reduce_ledger("x", arrived)] == [m.migration.id for m in target]
    assert plan_database_migrations("x", arrived, target, origin, read=str).steps == ()
    back = plan_database_migrations("x", arrived, origin, target, read=str).steps
    returned = reduce_ledger("x", after(arrived, back))
    assert [r.id for r in returned] == [m.migration.id for m in origin]
