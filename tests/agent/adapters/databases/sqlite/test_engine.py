"""The SQLite adapter on real files."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    CopyPlan,
    DatabaseMarker,
    DatabaseRole,
    LiveDatabase,
)
from ncen_updater.agent.adapters.databases.sqlite import read_operations
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    DatabaseSetMissingError,
    NotADatabaseSetError,
)
from ncen_updater.agent.model.errors import DatabaseError, FenceError
from ncen_updater.common.messages import (
    COPY_FAILED,
    CUT_OVER_FAILED,
    MARKERS_DISAGREE,
    QUERY_FAILED,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.migrations.factories import release
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

COPY = reference()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "db"


def add(directory: Path, note: str, name: str = "cases") -> None:
    with closing(sqlite3.connect(directory / "live" / f"{name}.sqlite")) as database:
        database.execute("INSERT INTO item (note) VALUES (?)", (note,))
        database.commit()


def hold(path: Path, sql: str) -> subprocess.Popen[str]:
    """Another process that has a database open; ended by closing its input."""
    code = (
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "d.execute(sys.argv[2]).fetchall(); print('open', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path), sql],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    child.stdout.close()
    return child


def release_hold(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    child.wait()


def test_upgrade_migrates_all_databases_and_retains_the_previous_ones(
    site: Path, tmp_path: Path
) -> None:
    engine = build(site)
    before = contents(site)
    assert engine.read_marker() is None
    assert engine.read_evidence(COPY) == ChangeEvidence(is_cut_over=False, fenced=False)
    engine.fence(COPY)
    assert engine.read_evidence(COPY) == ChangeEvidence(is_cut_over=False, fenced=True)
    assert not (site / "live").exists()
    plan = engine.plan_copy(COPY)
    engine.copy_databases(COPY, plan, SilentProgress())
    assert engine.is_copied(COPY, plan)
    assert engine.read_evidence(COPY).candidates == NAMES
    target = new_release(tmp_path / "slot")
    planned = engine.plan_migrations(COPY.get_candidate, target, None)
    assert [(s.database, s.id) for s in planned.steps] == [
        (n, i) for n in NAMES for i in ("0001_grade", "0002_more")
    ]
    engine.migrate(COPY, target, None, SilentProgress())
    assert engine.plan_migrations(COPY.get_candidate, target, None).steps == ()
    assert engine.list_leftovers() == tuple((COPY.id, DatabaseRole.CANDIDATE, n) for n in NAMES)
    engine.cut_over(COPY)
    assert engine.read_evidence(COPY) == ChangeEvidence(
        is_cut_over=True, fenced=False, previous=NAMES
    )
    assert engine.read_marker() == DatabaseMarker("2.0", 1, COPY.id)
    assert engine.list_leftovers() == tuple((COPY.id, DatabaseRole.PREVIOUS, n) for n in NAMES)
    assert stat.S_IMODE((site / "sets" / "base" / "cases.sqlite").stat().st_mode) == 0o444
    assert engine.run_query(LiveDatabase("cases"), "SELECT max(grade) FROM item") == [(8,)]
    assert engine.run_query(COPY.get_previous("cases"), "SELECT count(*) FROM item") == [(50,)]
    engine.cut_over(COPY)  # again, after a crash that lost its record
    engine.revert_cut_over(COPY)
    assert engine.read_evidence(COPY) == ChangeEvidence(
        is_cut_over=False, fenced=True, candidates=NAMES
    )
    engine.discard_candidates(COPY, plan)
    engine.unfence(COPY)
    assert contents(site) == before
    assert stat.S_IMODE((site / "sets" / "base" / "cases.sqlite").stat().st_mode) & 0o200
    assert engine.read_evidence(COPY) == ChangeEvidence(is_cut_over=False, fenced=False)
    assert engine.read_marker() is None


def test_second_change_copies_the_result_of_the_first(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    target = new_release(tmp_path / "slot")
    upgrade(engine, COPY, target)
    second = reference("bcdefgha", 2)
    upgrade(engine, second, target)
    assert engine.read_marker() == DatabaseMarker("2.0", 2, second.id)
    assert engine.read_evidence(second).previous == NAMES
    assert engine.read_evidence(COPY) == ChangeEvidence(
        is_cut_over=False, fenced=False, previous=NAMES, superseded=True
    )
    engine.drop_previous(COPY.id)
    engine.drop_previous(COPY.id)
    assert engine.list_leftovers() == tuple((second.id, DatabaseRole.PREVIOUS, n) for n in NAMES)
    engine.revert_cut_over(second)
    engine.unfence(second)
    assert engine.read_marker() == DatabaseMarker("2.0", 1, COPY.id)


def test_restore_of_previous_databases_counts_the_loss(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    before = contents(site)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    add(site, "new")
    add(site, "newer")
    back = ChangeRef("cdefghab", 2, "1.0", retained_from=COPY.id)
    assert engine.count_lost_rows(back) == {"cases": {"item": 2}}
    engine.fence(back)
    plan = engine.plan_copy(back)
    engine.copy_databases(back, plan, SilentProgress())
    engine.migrate(back, release(tmp_path, "1.0"), None, SilentProgress())
    engine.cut_over(back)
    assert engine.read_marker() == DatabaseMarker("1.0", 2, back.id)
    assert engine.run_query(LiveDatabase("cases"), "SELECT count(*) FROM item") == [(50,)]
    add(site, "writable again")
    assert contents(site)["cases"] != before["cases"]


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "BEGIN IMMEDIATE", "SELECT count(*) FROM item"],
    ids=["opened", "writing", "read"],
)
def test_process_with_an_open_file_is_named(site: Path, sql: str) -> None:
    engine = build(site)
    child = hold(site / "live" / "cases.sqlite", sql)
    try:
        codes = {f.code for f in engine.find_blockers(COPY, application_stopped=True)}
        assert "NU-4244" in codes
        assert engine.find_blockers(COPY, application_stopped=False) == ()
        with pytest.raises(FenceError, match=str(child.pid)):
            engine.fence(COPY)
    finally:
        release_hold(child)
    engine.fence(COPY)
    engine.unfence(COPY)
    assert (site / "live").is_symlink()
    assert engine.read_evidence(COPY) == ChangeEvidence(is_cut_over=False, fenced=False)


def test_wal_of_a_killed_application_is_copied_without_touching_the_original(
    site: Path, tmp_path: Path
) -> None:
    engine = build(site)
    path = site / "live" / "cases.sqlite"
    code = (
        "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1]);"
        "d.execute('PRAGMA journal_mode = WAL'); d.execute('PRAGMA wal_autocheckpoint = 0');"
        "d.execute(\"INSERT INTO item (note) VALUES ('late')\"); d.commit(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    wal = site / "sets" / "base" / "cases.sqlite-wal"
    assert wal.stat().st_size
    assert "NU-4246" in {f.code for f in engine.find_blockers(COPY, application_stopped=True)}
    bytes_before = {p.name: p.read_bytes() for p in wal.parent.iterdir() if "-shm" not in p.name}
    engine.fence(COPY)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    rows = engine.run_query(COPY.get_candidate("cases"), "SELECT count(*) FROM item")
    assert rows == [(51,)]
    after = {p.name: p.read_bytes() for p in wal.parent.iterdir() if "-shm" not in p.name}
    assert after == bytes_before
    engine.migrate(COPY, new_release(tmp_path / "slot"), None, SilentProgress())
    engine.cut_over(COPY)
    assert engine.run_query(COPY.get_previous("cases"), "SELECT count(*) FROM item") == [(51,)]


def test_open_set_is_copied_online_for_a_rehearsal(site: Path) -> None:
    engine = build(site)
    child = hold(site / "live" / "cases.sqlite", "BEGIN IMMEDIATE")
    try:
        engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    finally:
        release_hold(child)
    assert engine.run_query(COPY.get_candidate("cases"), "SELECT count(*) FROM item") == [(50,)]
    engine.discard_candidates(COPY, CopyPlan({}))
    assert engine.list_leftovers() == ()


def test_cut_over_requires_a_fence_and_marked_candidates(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    engine.fence(COPY)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    with refused(CUT_OVER_FAILED, match="marker of cases is -, not 2.0"):
        engine.cut_over(COPY)
    engine.migrate(COPY, new_release(tmp_path / "slot"), None, SilentProgress())
    (site / "sets" / f"next_{COPY.id}" / "people.sqlite").rename(tmp_path / "gone")
    with refused(CUT_OVER_FAILED, match="people not found"):
        engine.cut_over(COPY)
    (tmp_path / "gone").rename(site / "sets" / f"next_{COPY.id}" / "people.sqlite")
    engine.unfence(COPY)
    with refused(CUT_OVER_FAILED, match="not closed to connections"):
        engine.cut_over(COPY)
    assert engine.read_evidence(COPY).is_cut_over is False


def test_manually_mixed_set_is_detected(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    (site / "live" / "people.sqlite").write_bytes(
        (site / "sets" / "base" / "people.sqlite").read_bytes()
    )
    with refused(MARKERS_DISAGREE, match="people"):
        engine.read_marker()


def test_damaged_original_is_not_copied(site: Path) -> None:
    engine = build(site, rows=5_000)
    path = site / "sets" / "base" / "cases.sqlite"
    with path.open("r+b") as stream:
        stream.seek(8192)
        stream.write(os.urandom(20_000))
    assert "NU-4245" in {f.code for f in engine.find_blockers(COPY, application_stopped=False)}
    engine.fence(COPY)
    with refused(COPY_FAILED):
        engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    assert not engine.is_copied(COPY, CopyPlan({}))
    engine.discard_candidates(COPY, CopyPlan({}))
    assert engine.list_leftovers() == ()


@pytest.mark.parametrize(("others", "codes"), [(0, []), (10**18, ["NU-4243"])])
def test_later_space_of_the_change_is_added(site: Path, others: int, codes: list[str]) -> None:
    found = build(site).find_blockers(COPY, application_stopped=False, other_bytes=lambda _: others)
    assert [finding.code for finding in found] == codes


def test_missing_database_is_reported(site: Path) -> None:
    engine = build(site)
    (site / "sets" / "base" / "people.sqlite").unlink()
    assert [f.code for f in engine.find_blockers(COPY, application_stopped=False)] == ["NU-4242"]
    assert engine.read_evidence(COPY).missing == ("people",)
    with pytest.raises(DatabaseSetMissingError):
        engine.describe_databases()
    (site / "live").unlink()
    assert [f.code for f in engine.find_blockers(COPY, application_stopped=False)] == ["NU-4241"]
    assert engine.read_evidence(COPY) == ChangeEvidence(
        is_cut_over=False, fenced=False, missing=NAMES
    )


@pytest.mark.parametrize("mode", ["ro", "rw", "frozen"])
def test_failure_to_open_is_an_error_of_the_database(site: Path, mode: str) -> None:
    """As of a file that vanished since it was found, or of a process with too many open files."""
    build(site)
    missing = site / "live" / "none.sqlite"
    with (
        refused(DatabaseError.message, match="unable to open"),
        read_operations.open_session(missing, mode, "cases"),
    ):
        raise AssertionError("opened")


def test_plain_directory_is_adopted_once(site: Path) -> None:
    build(site)
    (site / "live").unlink()
    (site / "sets" / "base").rename(site / "live")
    (site / "sets").rmdir()
    engine = SqliteEngine(site, NAMES)
    assert [f.code for f in engine.find_blockers(COPY, application_stopped=False)] == ["NU-4240"]
    with pytest.raises(NotADatabaseSetError):
        engine.fence(COPY)
    before = contents(site)
    child = hold(site / "live" / "cases.sqlite", "SELECT count(*) FROM item")
    try:
        with pytest.raises(FenceError):
            engine.adopt_databases()
    finally:
        release_hold(child)
    engine.adopt_databases()
    engine.adopt_databases()
    assert (site / "live").is_symlink()
    assert contents(site) == before
    (site / "live").unlink()  # as a crash between the two renames leaves it
    engine.adopt_databases()
    assert contents(site) == before


def test_baseline_is_written_once_and_counts_as_applied(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    target = new_release(tmp_path / "slot")
    engine.baseline_ledger(COPY, target)
    engine.baseline_ledger(reference("bcdefgha"), target)
    assert {row.change for row in engine.read_ledger(LiveDatabase("cases"))} == {COPY.id}
    assert engine.plan_migrations(LiveDatabase, target, None).steps == ()
    assert engine.read_marker() is None
    engine.fence(COPY)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    engine.migrate(COPY, target, None, SilentProgress())
    engine.cut_over(COPY)


def test_query_cannot_write_and_is_limited_in_time(site: Path) -> None:
    engine = build(site)
    for sql in ("DELETE FROM item", "SELECT nothing", "SELECT 1; SELECT 2"):
        with refused(QUERY_FAILED):
            engine.run_query(LiveDatabase("cases"), sql)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    with refused(QUERY_FAILED, match="interrupted"):
        engine.run_query(LiveDatabase("cases"), endless, timeout_s=0.05)


@pytest.mark.parametrize("shared", [False, True])
def test_copies_are_clones_where_the_file_system_can(
    site: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    engine = build(site)
    monkeypatch.setattr(read_operations, "supports_reflink", lambda _place: shared)
    assert ("XFS" in str(engine.describe_clone_condition())) is not shared
