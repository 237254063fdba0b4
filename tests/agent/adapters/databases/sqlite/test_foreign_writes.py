"""Tests that a write to closed files is detected and retained.

The other programs are real processes, by whatever path they come. One runs as another user, while
the agent has only the capabilities of its unit: then /proc shows no other users.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan, MigrationSet
from ncen_updater.agent.adapters.databases.sqlite.copies import checkpoint_and_check
from ncen_updater.agent.adapters.databases.sqlite.database_sets import (
    FileSnapshot,
    SetSnapshot,
    find_changed_files,
    snapshot_quiet_set,
)
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    RecordUnreadableError,
    can_see_other_users,
)
from ncen_updater.agent.model.errors import DatabaseError, FenceError
from ncen_updater.common.findings import Severity
from ncen_updater.common.messages import FENCED_FILES_CHANGED
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.sqlite.site import (
    NAMES,
    build,
    contents,
    new_release,
    reference,
    revert,
    upgrade,
)
from tests.support.errors import has_message, refused

COPY = reference()
NOBODY = 65534
UNITS = Path(__file__).parents[5] / "packaging" / "systemd"
CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3,
    "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7,
}  # fmt: skip
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give capabilities up and be another user"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def target(tmp_path: Path) -> MigrationSet:
    return new_release(tmp_path / "slot")


@pytest.fixture
def open_site() -> Iterator[Path]:
    """A directory that other users can access."""
    directory = Path(tempfile.mkdtemp(prefix="nu-noticed-"))
    directory.chmod(0o755)
    yield directory / "db"
    shutil.rmtree(directory)


class Program:
    """Another process with a connection to a database of the site; it runs given commands.

    Args:
        path: The database.
        user: Whom it runs as; ourselves by default.
        wal: Whether it brings the database to WAL mode first, without checkpoints of its own.
    """

    def __init__(self, path: Path, user: int | None = None, *, wal: bool = False) -> None:
        ours, its = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours[0])
            os.close(its[1])
            self._serve(path, user, wal, its[0], ours[1])
        os.close(ours[1])
        os.close(its[0])
        self._said = os.fdopen(ours[0], "r")
        self._told = os.fdopen(its[1], "w")
        assert self._said.readline() == "opened\n"

    @staticmethod
    def _serve(path: Path, user: int | None, wal: bool, read: int, write: int) -> None:
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            database = sqlite3.connect(path, isolation_level=None)
            if wal:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA wal_autocheckpoint = 0")
            database.execute("SELECT count(*) FROM item").fetchall()
            os.write(write, b"opened\n")
            for sql in os.fdopen(read, "r"):
                database.execute(sql).fetchall()
                os.write(write, b"done\n")
            database.close()
        finally:
            os._exit(0)

    def does(self, sql: str) -> None:
        self._told.write(sql.strip() + "\n")
        self._told.flush()
        assert self._said.readline() == "done\n", sql

    def enters(self, note: str) -> None:
        self.does(f"INSERT INTO item (note) VALUES ('{note}')")

    def dies(self) -> None:
        """Leave its journal as it is."""
        os.kill(self.pid, 9)
        self.ends()

    def ends(self) -> None:
        self._told.close()
        self._said.close()
        os.waitpid(self.pid, 0)


def enter(path: Path, note: str) -> None:
    """Open, write, close: as a user with a shell does."""
    program = Program(path)
    program.enters(note)
    program.ends()


def notes_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return [str(row[0]) for row in database.execute("SELECT note FROM item ORDER BY id")]


def until_migrated(engine: SqliteEngine, change: ChangeRef, target: MigrationSet) -> None:
    engine.fence(change)
    engine.copy_databases(change, engine.plan_copy(change), SilentProgress())
    engine.migrate(change, target, None, SilentProgress())


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the processes of others, as in the packaged unit."""
    monkeypatch.setattr(
        "ncen_updater.agent.adapters.databases.sqlite.engine.find_holders", lambda _: ()
    )


# ---- as the package runs it ----------------------------------------------------------------------


def unit_capabilities() -> set[str]:
    """Return the capabilities that the unit keeps; equal for both units that change a site."""
    found = set()
    for name in ("ncen-updater-apply@.service", "ncen-updater-resume.service"):
        text = (UNITS / name).read_text("utf-8")
        assert "ProtectProc=invisible" in text
        found.add(re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)[0])
    assert len(found) == 1
    return set(found.pop().split())


def keep_only(capabilities: set[str]) -> None:
    """Drop every other capability of this process permanently."""
    wanted = sum(1 << CAPABILITIES[name] for name in capabilities)
    header = (ctypes.c_uint32 * 2)(0x2008_0522, 0)  # _LINUX_CAPABILITY_VERSION_3
    low = wanted & 0xFFFF_FFFF
    data = (ctypes.c_uint32 * 6)(low, low, 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capset(header, data) == 0, os.strerror(ctypes.get_errno())


def as_the_unit(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a function in a child with the unit's capabilities; return its output."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            keep_only(unit_capabilities())
            said = act()
        except BaseException as error:  # noqa: BLE001 - for the parent to read
            said = {"error": repr(error)}
        finally:
            os.write(write, json.dumps(said).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "r") as stream:
        found: dict[str, Any] = json.load(stream)
    os.waitpid(child, 0)
    return found


@needs_root
def test_write_by_another_user_is_detected(open_site: Path, target: MigrationSet) -> None:
    engine = build(open_site)
    give_to_other_user(open_site)
    program = Program(open_site / "live" / "cases.sqlite", NOBODY)

    def attempt() -> dict[str, Any]:
        assert not can_see_other_users()
        codes = [finding.code for finding in engine.find_blockers(COPY, application_stopped=False)]
        engine.fence(COPY)
        codes += [finding.code for finding in engine.find_blockers(COPY, application_stopped=True)]
        engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
        engine.migrate(COPY, target, None, SilentProgress())
        program.enters("late")
        try:
            engine.cut_over(COPY)
        except DatabaseError as error:
            assert has_message(error, FENCED_FILES_CHANGED)
            said = str(error)
        else:
            said = "cut over"
        revert(engine, COPY)
        return {"codes": codes, "said": said}

    found = as_the_unit(attempt)
    program.ends()
    assert found.get("error") is None
    assert set(found["codes"]) == {"NU-4250"}  # it reports that it cannot see others, and saw none
    assert "NU-4222" in found["said"]
    assert "cases.sqlite" in found["said"]
    assert notes_of(open_site / "live" / "cases.sqlite")[-1] == "late"


@needs_root
def test_connection_in_wal_mode_is_detected_by_its_lock(open_site: Path) -> None:
    engine = build(open_site)
    give_to_other_user(open_site)
    program = Program(open_site / "live" / "cases.sqlite", NOBODY, wal=True)

    def attempt() -> dict[str, Any]:
        with pytest.raises(FenceError, match="locked"):
            engine.fence(COPY)
        engine.unfence(COPY)
        return {}

    found = as_the_unit(attempt)
    program.ends()
    assert found.get("error") is None


def give_to_other_user(directory: Path) -> None:
    base = directory / "sets" / "base"
    for path in (base, *base.iterdir()):
        os.chown(path, NOBODY, NOBODY)


def test_visibility_of_other_users_is_detected(tmp_path: Path) -> None:
    status = tmp_path / "self" / "status"
    status.parent.mkdir()
    for line, expected in (
        ("CapEff:\t000001ffffffffff", True),
        ("CapEff:\t0000000000080000", True),
        ("CapEff:\t000000000000000b", False),
        ("CapPrm:\t000001ffffffffff", False),
    ):
        status.write_text(f"Name:\tpython\n{line}\n")
        assert can_see_other_users(tmp_path) is expected


# ---- between the fence and the cut-over ----------------------------------------------------------


@pytest.mark.parametrize("way", [f"live.fenced-{COPY.id}", "sets/base"])
@pytest.mark.parametrize("when", ["before the copy", "after the copy", "after the migrations"])
def test_manual_write_between_open_and_close_is_detected(
    site: Path, target: MigrationSet, way: str, when: str
) -> None:
    engine = build(site)
    path = site / way / "people.sqlite"
    engine.fence(COPY)
    if when == "before the copy":
        enter(path, "by hand")
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    if when == "after the copy":
        enter(path, "by hand")
    engine.migrate(COPY, target, None, SilentProgress())
    if when == "after the migrations":
        enter(path, "by hand")
    with refused(FENCED_FILES_CHANGED, match=r"people.sqlite of base"):
        engine.cut_over(COPY)
    assert not engine.read_evidence(COPY).is_cut_over
    revert(engine, COPY)
    assert notes_of(site / "live" / "people.sqlite")[-1] == "by hand"
    upgrade(engine, reference("bcdefgha"), target)  # nothing is wedged
    assert notes_of(site / "live" / "people.sqlite")[-1] == "by hand"


def test_checkpoint_is_detected(site: Path, target: MigrationSet) -> None:
    engine = build(site)
    path = site / "sets" / "base" / "cases.sqlite"
    program = Program(path, wal=True)
    program.enters("in the WAL")
    program.dies()
    until_migrated(engine, COPY, target)
    enter(path, "and a checkpoint at its end")
    assert not path.with_name(path.name + "-wal").exists()
    with refused(FENCED_FILES_CHANGED, match=r"cases.sqlite, cases.sqlite-wal"):
        engine.cut_over(COPY)
    revert(engine, COPY)
    assert notes_of(site / "live" / "cases.sqlite")[-2:] == [
        "in the WAL",
        "and a checkpoint at its end",
    ]


@pytest.mark.parametrize("times", ["kept", "set back"])
def test_replaced_file_is_detected(
    site: Path, target: MigrationSet, times: str, tmp_path: Path
) -> None:
    engine = build(site)
    path = site / "sets" / "base" / "cases.sqlite"
    until_migrated(engine, COPY, target)
    if times == "kept":
        shutil.copy2(path, tmp_path / "other")
        (tmp_path / "other").rename(path)
    else:
        info = path.stat()
        with path.open("r+b") as stream:
            stream.seek(4096)
            stream.write(b"?")
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    with refused(FENCED_FILES_CHANGED, match=r"cases.sqlite"):
        engine.cut_over(COPY)


@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
def test_reader_does_not_disturb(site: Path, target: MigrationSet, wal: bool) -> None:
    engine = build(site)
    path = site / "sets" / "base" / "cases.sqlite"
    if wal:
        Program(path, wal=True).ends()
    until_migrated(engine, COPY, target)
    Program(path).ends()
    engine.cut_over(COPY)
    assert engine.read_evidence(COPY).is_cut_over


def test_finished_journal_raises_no_false_alarm(site: Path, target: MigrationSet) -> None:
    """A WAL or a rollback journal of a killed application."""
    engine = build(site)
    base = site / "sets" / "base"
    program = Program(base / "cases.sqlite", wal=True)
    program.enters("late")
    program.dies()
    other = Program(base / "people.sqlite")
    other.does("PRAGMA cache_size = 1")
    other.does("PRAGMA cache_spill = 1")
    other.does("BEGIN IMMEDIATE")
    other.does("UPDATE item SET note = hex(zeroblob(2000))")
    other.dies()
    assert (base / "cases.sqlite-wal").stat().st_size
    assert (base / "people.sqlite-journal").stat().st_size
    engine.fence(COPY)
    engine.find_blockers(COPY, application_stopped=True)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    engine.migrate(COPY, target, None, SilentProgress())
    engine.cut_over(COPY)
    engine.check_before_commit(COPY)
    previous = engine.run_query(COPY.get_previous("cases"), "SELECT note FROM item")
    assert previous[-1] == ("late",)
    (row,) = engine.run_query(COPY.get_previous("people"), "SELECT max(length(note)) FROM item")
    assert len(str(row[0])) < 3
    engine.drop_previous(COPY.id)
    assert engine.list_quarantined() == ()


@pytest.mark.parametrize("left", ["a WAL", "an index of no WAL"])
def test_write_during_journal_recovery_is_detected(
    site: Path, target: MigrationSet, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    engine = build(site)
    path = site / "sets" / "base" / "cases.sqlite"
    program = Program(path, wal=True)
    program.enters("late")
    if left == "a WAL":
        program.dies()
    else:
        program.ends()
    until_migrated(engine, COPY, target)
    engine.find_blockers(COPY, application_stopped=True)  # a mere look leaves the index behind
    assert path.with_name(path.name + "-shm").exists()

    def too_late(of: Path) -> str | None:
        enter(of, "in between")
        return checkpoint_and_check(of)

    monkeypatch.setattr(
        "ncen_updater.agent.adapters.databases.sqlite.engine.checkpoint_and_check", too_late
    )
    with refused(FENCED_FILES_CHANGED, match=r"cases.sqlite of base"):
        engine.cut_over(COPY)
    revert(engine, COPY)
    assert notes_of(site / "live" / "cases.sqlite")[-2:] == ["late", "in between"]


def test_unrecorded_set_is_not_cut_over(site: Path, target: MigrationSet) -> None:
    engine = build(site)
    before = contents(site)
    until_migrated(engine, COPY, target)
    note = site / "records" / f"{COPY.id}.json"
    for text in ("", "[]", '{"before": {"place": "base"}}', '{"before": {"files": 1}}'):
        note.write_text(text)
        with pytest.raises(RecordUnreadableError):
            engine.cut_over(COPY)
    note.unlink()
    with pytest.raises(RecordUnreadableError):
        engine.cut_over(COPY)
    revert(engine, COPY)
    assert contents(site) == before


# ---- after the cut-over --------------------------------------------------------------------------


def test_open_previous_file_is_detected_before_the_commit(
    site: Path, target: MigrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind(monkeypatch)
    engine = build(site)
    program = Program(site / "live" / "cases.sqlite")
    program.does("PRAGMA journal_mode = MEMORY")  # needs no more than what it has open
    upgrade(engine, COPY, target)
    engine.check_before_commit(COPY)
    program.enters("into the old ones")
    with refused(FENCED_FILES_CHANGED, match=r"cases.sqlite of base"):
        engine.check_before_commit(COPY)
    revert(engine, COPY)
    program.ends()
    assert notes_of(site / "live" / "cases.sqlite")[-1] == "into the old ones"


def test_later_writes_to_previous_files_are_retained(
    site: Path, target: MigrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind(monkeypatch)
    engine = build(site)
    program = Program(site / "live" / "cases.sqlite")
    program.does("PRAGMA journal_mode = MEMORY")  # needs no more than what it has open
    upgrade(engine, COPY, target)
    engine.record_commit(COPY)
    program.enters("for days")
    program.ends()
    engine.drop_previous(COPY.id)
    engine.drop_previous(COPY.id)
    kept = site / "sets" / f"written_{COPY.id}"
    assert notes_of(kept / "cases.sqlite")[-1] == "for days"
    assert list_retained(engine) == [(COPY.id, str(kept), "-")]
    (finding,) = (
        f for f in engine.find_blockers(COPY, application_stopped=False) if f.code == "NU-4251"
    )
    assert (finding.severity, finding.figures["path"]) == (Severity.WARNING, str(kept))
    assert engine.list_leftovers() == ()
    second = reference("bcdefgha", 2)
    upgrade(engine, second, target)
    engine.drop_previous(second.id)
    engine.discard_candidates(COPY, CopyPlan({}))
    assert kept.is_dir()
    engine.drop_quarantined(second.id)
    assert kept.is_dir()
    engine.drop_quarantined(COPY.id)
    engine.drop_quarantined(COPY.id)
    assert engine.list_quarantined() == ()
    assert sorted(path.name for path in (site / "sets").iterdir()) == [f"next_{second.id}"]


def test_damaged_snapshot_does_not_block_pruning(site: Path, target: MigrationSet) -> None:
    """Writes to the previous files cannot be excluded then, so the files are retained."""
    engine = build(site)
    upgrade(engine, COPY, target)
    engine.record_commit(COPY)
    (site / "records" / f"{COPY.id}.json").write_text("{")
    engine.drop_previous(COPY.id)
    kept = site / "sets" / f"written_{COPY.id}"
    assert list_retained(engine) == [(COPY.id, str(kept), "-")]
    assert not (site / "records" / f"{COPY.id}.json").exists()


def list_retained(engine: SqliteEngine) -> list[tuple[object, ...]]:
    """List change, path and rows of retained databases."""
    names = ("change", "path", "rows")
    return [tuple(finding.figures[name] for name in names) for finding in engine.list_quarantined()]


def test_revert_retains_rows_entered_in_the_new_set(site: Path, target: MigrationSet) -> None:
    engine = build(site)
    before = contents(site)
    upgrade(engine, COPY, target)
    program = Program(site / "live" / "people.sqlite")
    program.does("UPDATE item SET grade = 1 WHERE id = 1")
    program.enters("of somebody")
    program.ends()
    revert(engine, COPY)
    assert contents(site) == before
    kept = site / "sets" / f"written_{COPY.id}"
    assert notes_of(kept / "people.sqlite")[-1] == "of somebody"
    assert list_retained(engine) == [(COPY.id, str(kept), "people.item 1")]
    assert engine.list_leftovers() == ()
    revert(engine, COPY)
    upgrade(engine, reference("bcdefgha"), target)


def test_row_with_an_explicit_number_is_retained(site: Path, target: MigrationSet) -> None:
    """Its number is not the next one: the newest row is still the previous one."""
    engine = build(site)
    before = contents(site)
    upgrade(engine, COPY, target)
    with sqlite3.connect(site / "live" / "cases.sqlite", isolation_level=None) as database:
        database.execute("INSERT INTO item (id, note) VALUES (-5, 'by its own number')")
    database.close()
    revert(engine, COPY)
    assert contents(site) == before
    kept = site / "sets" / f"written_{COPY.id}"
    assert list_retained(engine) == [(COPY.id, str(kept), "cases.item 1")]


def test_revert_without_new_rows_retains_nothing(site: Path, target: MigrationSet) -> None:
    engine = build(site)
    upgrade(engine, COPY, target)
    Program(site / "live" / "people.sqlite").ends()
    revert(engine, COPY)
    assert engine.list_quarantined() == ()
    assert len(list((site / "sets").iterdir())) == 1
    assert list((site / "records").glob("*.json")) == []


def test_unreadable_set_is_retained(site: Path, target: MigrationSet) -> None:
    engine = build(site)
    upgrade(engine, COPY, target)
    (site / "live" / "people.sqlite").write_bytes(b"no database at all" * 500)
    revert(engine, COPY)
    assert (site / "sets" / f"written_{COPY.id}").is_dir()
    assert [finding.figures["rows"] for finding in engine.list_quarantined()] == ["-"]
    assert engine.read_evidence(COPY).missing == ()


def test_restore_inspects_the_set_that_it_replaces(site: Path, target: MigrationSet) -> None:
    engine = build(site)
    upgrade(engine, COPY, target)
    engine.record_commit(COPY)
    back = ChangeRef("cdefghab", 2, "1.0", retained_from=COPY.id)
    engine.fence(back)
    engine.copy_databases(back, engine.plan_copy(back), SilentProgress())
    engine.migrate(back, replace(target, databases={}), None, SilentProgress())
    enter(site / "sets" / f"next_{COPY.id}" / "cases.sqlite", "by hand")
    with refused(FENCED_FILES_CHANGED):
        engine.cut_over(back)
    revert(engine, back)
    assert notes_of(site / "live" / "cases.sqlite")[-1] == "by hand"


# ---- the looks themselves ------------------------------------------------------------------------

SEEN = FileSnapshot(1, 4096, 10**18, 10**18, "00")


@pytest.mark.parametrize(
    ("changes", "found", "found_frozen"),
    [
        ({}, False, False),
        ({"inode": 2}, True, True),
        ({"size": 8192}, True, True),
        ({"mtime_ns": 10**18 + 1}, True, True),
        ({"ctime_ns": 10**18 + 1}, True, False),
        ({"head": "01"}, True, True),
    ],
)
def test_file_changes_are_classified(
    changes: dict[str, Any], found: bool, found_frozen: bool
) -> None:
    before = SetSnapshot("base", {"a.sqlite": SEEN})
    now = SetSnapshot("base", {"a.sqlite": replace(SEEN, **changes)})
    assert bool(find_changed_files(before, now)) is found
    assert bool(find_changed_files(before, now, frozen=True)) is found_frozen
    both = SetSnapshot("base", {"a.sqlite": SEEN, "a.sqlite-wal": SEEN})
    assert find_changed_files(before, both) == find_changed_files(both, before) == ("a.sqlite-wal",)


def test_inspection_waits_for_the_next_clock_tick(site: Path) -> None:
    engine = build(site)
    layout = engine._layout
    newest = max(path.stat().st_mtime_ns for path in (site / "live").iterdir())
    clock = [newest + 1]
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += int(seconds * 1e9) + 1

    seen = snapshot_quiet_set(layout, site / "sets" / "base", lambda: clock[0], wait)
    assert set(seen.files) == {f"{name}.sqlite" for name in NAMES}
    assert len(waits) == 1
    snapshot_quiet_set(
        layout, site / "sets" / "base", lambda: newest - 10**9, wait
    )  # a clock set back
    assert len(waits) == 1


def test_continuous_writer_is_refused(site: Path) -> None:
    engine = build(site)
    path = site / "sets" / "base" / "cases.sqlite"

    def wait(_: float) -> None:
        os.utime(path)

    with refused(FENCED_FILES_CHANGED, match=r"cases.sqlite"):
        snapshot_quiet_set(
            engine._layout,
            site / "sets" / "base",
            lambda: path.stat().st_mtime_ns,
            wait,
        )


def test_fence_record_is_private_and_written_once(site: Path, tmp_path: Path) -> None:
    build(site)
    state = tmp_path / "state"
    engine = SqliteEngine(site, NAMES, records_directory=state)
    engine.fence(COPY)
    note = state / f"{COPY.id}.json"
    assert note.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert not (site / "records").exists()
    first = note.read_bytes()
    time_before = time.time_ns()
    engine.fence(COPY)  # again, after a crash: the first look counts
    assert note.read_bytes() == first
    assert note.stat().st_mtime_ns <= time_before
    engine.unfence(COPY)
    assert not note.exists()


def test_visible_holder_is_refused(site: Path) -> None:
    engine = build(site)
    program = Program(site / "live" / "cases.sqlite")
    with pytest.raises(FenceError):
        engine.fence(COPY)
    program.ends()
    engine.unfence(COPY)
