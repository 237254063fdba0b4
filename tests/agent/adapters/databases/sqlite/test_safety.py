"""Tests of SQLite sites: fences, half-migrated originals, journals, locks, references."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    CopyPlan,
    MigrationSet,
)
from ncen_updater.agent.adapters.databases.migrations.runner import (
    OWN_LOCK_TIMEOUT_MS,
    MigrationRunner,
)
from ncen_updater.agent.adapters.databases.sqlite.database_sets import (
    DatabaseSets,
    FenceRecord,
    RecordStore,
    snapshot_set,
)
from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.adapters.databases.sqlite.safe_files import DatabaseSetMissingError
from ncen_updater.agent.model.errors import FenceError, MigrationFailedError
from ncen_updater.common.messages import (
    ALREADY_COMMITTED,
    CUT_OVER_FAILED,
    FENCED_BY_OTHER,
    FENCED_FILES_CHANGED,
    REFERENCES_BROKEN,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import MigratorCommand
from tests.agent.adapters.databases.migrations.factories import make, release
from tests.agent.adapters.databases.sqlite.site import (
    NAMES,
    build,
    contents,
    new_release,
    reference,
    upgrade,
)
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.trees import remove_tree

COPY = reference()
OTHER = reference("bcdefgha", 2)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "db"


# ---- the fence -----------------------------------------------------------------------------------


def test_only_the_change_that_fenced_unfences(site: Path) -> None:
    engine = build(site)
    engine.fence(COPY)
    with refused(FENCED_BY_OTHER, match=COPY.id):
        engine.fence(OTHER)
    with refused(FENCED_BY_OTHER, match=COPY.id):
        engine.unfence(OTHER)
    assert engine.read_evidence(COPY).fenced
    engine.unfence(COPY)
    engine.unfence(COPY)
    engine.unfence(OTHER)  # open already
    assert not engine.read_evidence(COPY).fenced


def test_nothing_is_removed_while_the_live_set_is_unknown(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    (site / "live").unlink()
    there = sorted(site.rglob("*"))
    with pytest.raises(DatabaseSetMissingError):
        engine.drop_previous(COPY.id)
    with pytest.raises(DatabaseSetMissingError):
        engine.discard_candidates(COPY, CopyPlan({}))
    assert sorted(site.rglob("*")) == there


def test_committed_set_is_not_reverted(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    with refused(CUT_OVER_FAILED):
        engine.record_commit(COPY)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    assert not engine.read_evidence(COPY).committed
    engine.record_commit(COPY)
    engine.record_commit(COPY)
    before = contents(site)
    with refused(ALREADY_COMMITTED):
        engine.revert_cut_over(COPY)
    assert contents(site) == before
    assert engine.read_evidence(COPY).committed
    assert engine.read_evidence(replace(OTHER, generation=COPY.generation)).superseded
    assert not engine.read_evidence(OTHER).superseded
    assert sorted(p.name for p in site.iterdir()) == ["live", "records", "sets"]


def test_modes_set_by_an_administrator_are_preserved(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    engine.revert_cut_over(COPY)
    engine.unfence(COPY)
    path = site / "live" / "cases.sqlite"
    path.chmod(0o640)
    engine.fence(OTHER)
    engine.unfence(OTHER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# ---- in place ------------------------------------------------------------------------------------


def test_missing_previous_set_blocks_the_revert(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    engine.drop_previous(COPY.id)
    with pytest.raises(DatabaseSetMissingError, match="previous of"):
        engine.revert_cut_over(COPY)
    assert engine.read_evidence(COPY).is_cut_over


# ---- journals ------------------------------------------------------------------------------------


def leave_wal(path: Path) -> None:
    code = (
        "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1]);"
        "d.execute('PRAGMA journal_mode = WAL'); d.execute('PRAGMA wal_autocheckpoint = 0');"
        "d.execute(\"INSERT INTO item (note) VALUES ('late')\"); d.commit(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)


def test_unfinished_journal_blocks_the_cut_over(site: Path, tmp_path: Path) -> None:
    engine = build(site, rows=5_000)
    path = site / "sets" / "base" / "cases.sqlite"
    leave_wal(path)
    engine.fence(COPY)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    engine.migrate(COPY, new_release(tmp_path / "slot"), None, SilentProgress())
    with path.open("r+b") as stream:  # a disk that fails after the copy
        stream.seek(8192)
        stream.write(os.urandom(20_000))
    with refused(FENCED_FILES_CHANGED, match=r"cases.sqlite"):
        engine.cut_over(COPY)
    notes = RecordStore(
        site / "records", FenceRecord
    )  # it leaves no trace in the times of the file
    note = notes.read(COPY.id)
    assert note is not None
    now = snapshot_set(DatabaseSets(site, NAMES), path.parent)
    notes.write(COPY.id, replace(note, before=now))
    with refused(CUT_OVER_FAILED, match="cases in base"):
        engine.cut_over(COPY)
    assert engine.read_evidence(COPY) == ChangeEvidence(
        is_cut_over=False, fenced=True, candidates=NAMES
    )


def test_finished_journal_leaves_a_previous_set_readable_without_locks(
    site: Path, tmp_path: Path
) -> None:
    engine = build(site)
    leave_wal(site / "sets" / "base" / "cases.sqlite")
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    wal = site / "sets" / "base" / "cases.sqlite-wal"
    assert not wal.exists() or not wal.stat().st_size
    rows = engine.run_query(COPY.get_previous("cases"), "SELECT count(*) FROM item")
    assert rows == [(51,)]


# ---- locks and references ------------------------------------------------------------------------


@contextmanager
def locked(path: Path, how: str) -> Iterator[None]:
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(how)
            ready.set()
            over.wait(DEADLINE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(DEADLINE_S)
    try:
        yield
    finally:
        over.set()
        thread.join()


class Patience(SqliteDialect):
    """Records the lock timeout of each transaction start."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.told: list[int] = []

    def set_lock_timeout(self, driver: Any, lock_ms: int) -> None:
        super().set_lock_timeout(driver, lock_ms)
        self.told += driver.execute("PRAGMA busy_timeout").fetchone()


def test_lock_timeout_of_each_migration_is_used(site: Path, tmp_path: Path) -> None:
    build(site)
    path = site / "live" / "cases.sqlite"
    items = [
        make(tmp_path, "0001", "CREATE TABLE q (a)", lock_ms=70),
        make(tmp_path, "0002", "CREATE TABLE r (a)", lock_ms=80),
    ]
    patience = Patience(path)
    with (
        locked(path, "BEGIN IMMEDIATE"),
        pytest.raises(MigrationFailedError, match="lock") as caught,
    ):
        MigrationRunner(patience, "cases").migrate(COPY, items, None, SilentProgress())
    assert caught.value.values["migration"] == "0001"
    assert patience.told == [70]  # already where the agent makes its own tables
    MigrationRunner(patience, "cases").migrate(COPY, items, None, SilentProgress())
    # Its own tables; each before and in its transaction; the mark, for which nobody says.
    assert patience.told[1:] == [70, 70, 70, 80, 80, OWN_LOCK_TIMEOUT_MS]


def test_ledger_is_read_without_waiting_for_a_writer(site: Path) -> None:
    build(site)
    path = site / "live" / "cases.sqlite"
    with locked(path, "BEGIN IMMEDIATE"):
        assert MigrationRunner(SqliteDialect(path), "cases").read_ledger() == ()
        assert MigrationRunner(SqliteDialect(path), "cases").read_state() is None


PARENT = "CREATE TABLE kind (id INTEGER PRIMARY KEY); INSERT INTO kind VALUES (1), (2);"
CHILD = (
    "CREATE TABLE thing (id INTEGER PRIMARY KEY, kind INTEGER REFERENCES kind (id));"
    "INSERT INTO thing (kind) VALUES (1), (2), (2);"
)


def references(slot: Path, then: str) -> MigrationSet:
    items = [make(slot, "0001", PARENT + CHILD), make(slot, "0002", then)]
    return release(slot, "2.0", cases=items, people=[])


def test_broken_foreign_keys_fail_the_migration(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    engine.fence(COPY)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    with refused(REFERENCES_BROKEN, match="thing -> kind: 2") as caught:
        engine.migrate(
            COPY, references(tmp_path, "DELETE FROM kind WHERE id = 2"), None, SilentProgress()
        )
    assert caught.value.values == {"database": "cases", "migration": "0002", "count": 2}
    assert engine.run_query(COPY.get_candidate("cases"), "SELECT count(*) FROM kind") == [(2,)]
    # A table that is recreated is dropped in between, and nothing is lost by that.
    anew = (
        "CREATE TABLE new_kind (id INTEGER PRIMARY KEY, word TEXT);"
        "INSERT INTO new_kind (id) SELECT id FROM kind;"
        "DROP TABLE kind; ALTER TABLE new_kind RENAME TO kind;"
    )
    engine.migrate(COPY, references(tmp_path, anew), None, SilentProgress())
    assert engine.run_query(COPY.get_candidate("cases"), "SELECT count(*) FROM thing") == [(3,)]


def test_earlier_broken_foreign_keys_are_tolerated(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    with closing(sqlite3.connect(site / "live" / "cases.sqlite")) as database:
        database.executescript(PARENT + CHILD + "DELETE FROM kind WHERE id = 2;")
        database.executescript("CREATE TABLE odd (a REFERENCES item (note));")
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    assert engine.read_evidence(COPY).is_cut_over


def test_foreign_keys_are_checked_after_a_migrator(site: Path, tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="nu-migrator-"))
    place.chmod(0o755)
    site = place / "db"
    engine = SqliteEngine(site, NAMES, {"PATH": os.defpath})
    build(site)
    if os.geteuid() == 0:  # the application's user, then
        for path in (*(site / "sets/base").iterdir(), site / "sets/base"):
            os.chown(path, 65534, 65534)
    script = place / "migrate"
    script.touch(0o755)
    python = shutil.which("python3", path=os.defpath) or sys.executable
    script.write_text(
        f"#!{python} -I\n"
        "import os, sqlite3\n"
        "path = os.environ['NCEN_DB_CASES_URL'].removeprefix('sqlite:///')\n"
        f"d = sqlite3.connect(path); d.executescript({PARENT + CHILD!r})\n"
        "d.execute('DELETE FROM kind WHERE id = 1'); d.commit()\n"
    )
    command = MigratorCommand(argv=("migrate",), timeout_s=60)
    engine.fence(COPY)
    engine.copy_databases(COPY, engine.plan_copy(COPY), SilentProgress())
    with refused(REFERENCES_BROKEN, match="thing -> kind: 1"):
        engine.migrate(COPY, MigrationSet("2.0", place, {}, command), None, SilentProgress())
    script.write_text("#!/bin/sh\n")
    engine.migrate(COPY, MigrationSet("2.0", place, {}, command), None, SilentProgress())
    engine.cut_over(COPY)
    assert engine.read_evidence(COPY).is_cut_over
    remove_tree(place)


def test_revert_waits_for_processes_with_open_files(site: Path, tmp_path: Path) -> None:
    engine = build(site)
    upgrade(engine, COPY, new_release(tmp_path / "slot"))
    with locked(site / "live" / "cases.sqlite", "BEGIN IMMEDIATE"), pytest.raises(FenceError):
        engine.revert_cut_over(COPY)
    engine.revert_cut_over(COPY)
    engine.discard_candidates(COPY, CopyPlan({}))
    engine.unfence(COPY)
    assert engine.read_marker() is None


def test_evidence_of_a_first_upgrade_tolerates_a_leftover_journal(
    tmp_path: Path,
) -> None:
    """No record of the set exists yet, so its file is read; no other user may write to it."""
    base = tmp_path / "sets/base"
    base.mkdir(parents=True)
    (tmp_path / "live").symlink_to("sets/base")
    writes = (
        f"import os, sqlite3; c = sqlite3.connect({str(base / 'cases.sqlite')!r});"
        " c.isolation_level = None; c.execute('PRAGMA cache_size = 1');"
        " c.execute('CREATE TABLE t (x)'); c.execute('BEGIN');"
        " [c.execute('INSERT INTO t VALUES (?)', ('y' * 3000,)) for _ in range(200)]; os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", writes], check=False)
    assert (base / "cases.sqlite-journal").exists()
    engine = SqliteEngine(tmp_path, ("cases",), records_directory=tmp_path / "records")
    found = engine.read_evidence(ChangeRef("abcdefgh", 1, "3.3.0"))
    assert (found.superseded, found.is_cut_over, found.missing) == (False, False, ())
