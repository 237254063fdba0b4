"""Tests of a change without copies: only the marker changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    CopyPlan,
    DatabaseMarker,
)
from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
from ncen_updater.agent.adapters.databases.sqlite.database_sets import DatabaseSets, RecordStore
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.common import atomic_files
from ncen_updater.common.messages import ALREADY_COMMITTED, CUT_OVER_FAILED
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.sqlite.site import (
    NAMES,
    build,
    contents,
    new_release,
    reference,
    upgrade,
)
from tests.support.errors import refused

pytestmark = pytest.mark.usefixtures("sees_others")

FIRST = reference("firstaaa", 1)
AS_IS = replace(reference(generation=2), no_copy=True)


class Died(BaseException):
    """The agent is gone."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture(params=["adopted", "upgraded"])
def engine(request: pytest.FixtureRequest, site: Path, tmp_path: Path) -> SqliteEngine:
    """A site that no agent ever cut over, or one that was."""
    made = build(site)
    if request.param == "upgraded":
        upgrade(made, FIRST, new_release(tmp_path / "slot"))
        made.record_commit(FIRST)
    return made


def fence_and_cut_over(engine: SqliteEngine, change: ChangeRef = AS_IS) -> None:
    engine.fence(change)
    plan = engine.plan_copy(change)
    assert plan == CopyPlan({})
    engine.copy_databases(change, plan, SilentProgress())
    assert engine.is_copied(change, plan)
    engine.cut_over(change)


def revert_and_unfence(engine: SqliteEngine, change: ChangeRef = AS_IS) -> None:
    engine.revert_cut_over(change)
    engine.revert_cut_over(change)
    found = engine.read_evidence(change)
    assert (found.is_cut_over, found.fenced) == (False, True)
    engine.discard_candidates(change, CopyPlan({}))
    engine.unfence(change)


def rows(site: Path) -> dict[str, int]:
    found = {}
    for name in NAMES:
        with closing(sqlite3.connect(site / "live" / f"{name}.sqlite")) as database:
            found[name] = database.execute("SELECT count(*) FROM item").fetchone()[0]
    return found


def write(site: Path) -> None:
    with closing(sqlite3.connect(site / "live" / "cases.sqlite")) as database:
        database.execute("INSERT INTO item (note) VALUES ('by the new release')")
        database.commit()


def test_cut_over_and_back_changes_only_the_marker(engine: SqliteEngine, site: Path) -> None:
    change = replace(reference(generation=2), no_copy=True)
    before, marked, live = rows(site), engine.read_marker(), (site / "live").readlink()
    left = engine.list_leftovers()
    fence_and_cut_over(engine, change)
    found = engine.read_evidence(change)
    assert found.is_cut_over and not found.fenced and not found.candidates and not found.previous
    assert engine.read_marker() == DatabaseMarker("2.0", 2, change.id)
    assert (engine.list_leftovers(), (site / "live").readlink()) == (left, live)
    engine.cut_over(change)
    write(site)
    revert_and_unfence(engine, change)
    assert (engine.read_marker(), engine.list_quarantined()) == (marked, ())
    assert rows(site) == {**before, "cases": before["cases"] + 1}  # it is nowhere else
    assert (engine.list_leftovers(), (site / "live").readlink()) == (left, live)
    assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=False, fenced=False)


def test_file_without_writes_keeps_every_row(engine: SqliteEngine, site: Path) -> None:
    layout = DatabaseSets(site, NAMES)
    dumped, modes = contents(site), layout.read_modes(layout.find_live_set())
    fence_and_cut_over(engine)
    revert_and_unfence(engine)
    fence_and_cut_over(engine)
    revert_and_unfence(engine)
    if engine.read_marker() is not None:  # else the agent's own tables were made, empty
        assert contents(site) == dumped
    assert layout.read_modes(layout.find_live_set()) == modes


def test_commit_is_recorded_and_not_reverted(engine: SqliteEngine) -> None:
    fence_and_cut_over(engine)
    engine.check_before_commit(AS_IS)
    engine.record_commit(AS_IS)
    assert engine.read_evidence(AS_IS).committed
    with refused(ALREADY_COMMITTED):
        engine.revert_cut_over(AS_IS)
    later = replace(reference("latercha", 3), no_copy=True)
    fence_and_cut_over(engine, later)
    assert engine.read_evidence(AS_IS).superseded and not engine.read_evidence(later).committed
    revert_and_unfence(engine, later)
    assert engine.read_marker() == DatabaseMarker("2.0", 2, AS_IS.id)
    assert engine.read_evidence(AS_IS).committed
    engine.drop_previous(AS_IS.id)
    assert engine.read_marker() == DatabaseMarker("2.0", 2, AS_IS.id)


def test_older_change_does_not_replace_a_newer_one(engine: SqliteEngine) -> None:
    later = replace(reference("latercha", 3), no_copy=True)
    fence_and_cut_over(engine, later)
    engine.record_commit(later)
    engine.fence(AS_IS)
    with refused(CUT_OVER_FAILED):
        engine.cut_over(AS_IS)


@pytest.mark.parametrize("way", ["over", "back"])
def test_kill_at_every_write_is_reverted(
    engine: SqliteEngine, site: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    before, marked = rows(site), engine.read_marker()
    number, died = 0, True
    while died:
        number += 1
        engine.fence(AS_IS)
        if way == "back":
            engine.cut_over(AS_IS)
        with monkeypatch.context() as patch:
            count_down(patch, number)
            try:
                engine.cut_over(AS_IS) if way == "over" else engine.revert_cut_over(AS_IS)
                died = False
            except Died:
                pass
        again = SqliteEngine(site, NAMES)
        revert_and_unfence(again)
        assert (again.read_marker(), rows(site)) == (marked, before)
        assert not again.list_quarantined()
    assert number > 4, "the instants were not met"


def count_down(patch: pytest.MonkeyPatch, number: int) -> None:
    """Die right before the write of this number."""
    left = [number]

    def dying(act: object) -> object:
        def instead(*args: object, **values: object) -> object:
            left[0] -= 1
            if not left[0]:
                raise Died
            return act(*args, **values)  # type: ignore[operator]

        return instead

    for owner, name in (
        (MigrationRunner, "write_state"), (MigrationRunner, "delete_state"), (RecordStore, "write"),
        (RecordStore, "remove"), (atomic_files, "rename_entry"), (atomic_files, "replace_symlink"),
        (atomic_files, "remove_file"),
    ):  # fmt: skip
        patch.setattr(owner, name, dying(getattr(owner, name)))
