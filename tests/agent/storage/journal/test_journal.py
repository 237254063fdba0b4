"""Tests of the journal: durable records, one open change, and refusal of other files."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans
from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
)
from ncen_updater.agent.model.change_facts import ChangeFacts, SnapshotPlan
from ncen_updater.agent.model.errors import (
    JournalMissingError,
    JournalUnreadableError,
    JournalUnwritableError,
)
from ncen_updater.agent.storage.journal import journal_file
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import JOURNAL_EXISTS, JOURNAL_INTERRUPTED, OPEN_CHANGE
from tests.support.errors import refused

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHANGE = Change(
    id="abcdefgh", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", generation=1,
    created_at=AT,
)  # fmt: skip
OTHER = dataclasses.replace(CHANGE, id="zzzzzzzz", created_at=AT + timedelta(days=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.create(path) as journal:
        yield journal


def test_change_is_stored_with_its_steps_and_facts(journal: Journal, path: Path) -> None:
    journal.begin_change(CHANGE, ChangeFacts(lost_records=1))
    journal.record_step(
        CHANGE.id, StepName.COPY, StepState.INTENDED, ChangeFacts(copy_plan={"x": {"oid": 5}})
    )
    journal.record_step(CHANGE.id, StepName.COPY, StepState.DONE)
    with Journal.open(path) as again:
        change = again.find_open_change()
        assert change is not None
        assert dataclasses.replace(change, steps={}) == CHANGE
        assert change.get_step_state(StepName.COPY) is StepState.DONE
        assert change.steps[StepName.COPY].ended_at is not None
        assert change.get_step_state(StepName.MIGRATE) is None
        assert again.read_facts(CHANGE.id) == ChangeFacts(
            lost_records=1, copy_plan={"x": {"oid": 5}}
        )
        assert again.verify_chain() == 3


def test_one_change_is_open_at_a_time(journal: Journal) -> None:
    journal.begin_change(CHANGE)
    with refused(OPEN_CHANGE, match="abcdefgh"):
        journal.begin_change(OTHER)
    journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    journal.begin_change(OTHER)
    assert [change.id for change in journal.list_changes()] == ["zzzzzzzz", "abcdefgh"]


def test_newest_change_is_the_last_record_despite_clock_changes(journal: Journal) -> None:
    journal.begin_change(OTHER)
    journal.set_change_state(OTHER.id, ChangeState.REVERTED)
    journal.begin_change(CHANGE)  # the clock was set back
    assert [change.id for change in journal.list_changes()] == [CHANGE.id, OTHER.id]


def test_newest_rehearsal_is_the_last_record_despite_clock_changes(path: Path) -> None:
    times = [AT + timedelta(days=1), AT + timedelta(days=1)] * 2 + [AT] * 4
    with Journal.create(path, now=lambda: times.pop(0)) as journal:
        rehearsals = RehearsalStore(journal)
        rehearsals.record_start("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopyPlans())
        rehearsals.record_end("aaaaaaaa", RehearsalState.FAILED)
        rehearsals.record_start("bbbbbbbb", "3.2.4", "3.3.0", RehearsalCopyPlans())
        rehearsals.record_end("bbbbbbbb", RehearsalState.PASSED)
        found = rehearsals.find_last("3.2.4", "3.3.0")
    assert found is not None
    assert found.id == "bbbbbbbb", "or it would be rehearsed again and again"


def test_commit_is_one_record(journal: Journal) -> None:
    journal.begin_change(CHANGE)
    journal.commit_change(CHANGE.id)
    change = journal.read_change(CHANGE.id)
    assert change.state is ChangeState.COMMITTED
    assert change.get_step_state(StepName.COMMIT) is StepState.DONE
    assert [kept.change for kept in SiteHistory(journal).list_previous_databases()] == [CHANGE.id]


def test_commit_and_the_next_intent_are_one_record(journal: Journal) -> None:
    journal.begin_change(CHANGE)
    journal.commit_change(CHANGE.id, following=StepName.MAINTENANCE_OFF)
    change = journal.read_change(CHANGE.id)
    assert change.get_step_state(StepName.MAINTENANCE_OFF) is StepState.INTENDED
    kinds = [event.kind for event in journal.list_events(change=CHANGE.id)]
    assert kinds[1:] == ["committed", "step-done", "step-intended"]


def test_records_inside_a_transaction_stay_or_go_with_it(journal: Journal) -> None:
    journal.begin_change(CHANGE)
    with pytest.raises(RuntimeError), journal.transaction():
        journal.record_step(CHANGE.id, StepName.COPY, StepState.INTENDED)
        raise RuntimeError
    assert journal.read_change(CHANGE.id).steps == {}
    with journal.transaction():
        journal.record_step(CHANGE.id, StepName.COPY, StepState.INTENDED)
        journal.record_event("x", CHANGE.id)
    assert journal.read_change(CHANGE.id).get_step_state(StepName.COPY) is StepState.INTENDED
    journal.verify_chain()


def test_nothing_is_written_inside_a_read_transaction(journal: Journal) -> None:
    with pytest.raises(JournalUnwritableError), journal.read_transaction():
        journal.begin_change(CHANGE)
    journal.begin_change(CHANGE)


def test_change_without_copies_has_no_previous_databases(journal: Journal) -> None:
    journal.begin_change(CHANGE, ChangeFacts(no_copy=True))
    journal.commit_change(CHANGE.id)
    assert not SiteHistory(journal).list_previous_databases()
    photos = (SnapshotPlan("photos", "/srv/photos", "link"),)
    journal.begin_change(
        OTHER, ChangeFacts(no_copy=True, snapshots=photos), superseded_change=CHANGE.id
    )
    journal.commit_change(OTHER.id)
    assert [kept.change for kept in SiteHistory(journal).list_previous_databases()] == [OTHER.id]


def test_rollback_supersedes_a_failed_soak_in_one_transaction(journal: Journal) -> None:
    journal.begin_change(CHANGE)
    journal.commit_change(CHANGE.id)
    journal.begin_change(OTHER, superseded_change=CHANGE.id)
    assert journal.read_change(CHANGE.id).state is ChangeState.FINISHED
    open_change = journal.find_open_change()
    assert open_change is not None
    assert open_change.id == OTHER.id


def test_journal_is_not_readable_by_others(journal: Journal, path: Path) -> None:
    assert path.stat().st_mode & 0o027 == 0


def test_create_never_replaces_a_journal(journal: Journal, path: Path) -> None:
    journal.begin_change(CHANGE)
    with refused(JOURNAL_EXISTS):
        Journal.create(path)


def test_open_never_creates_a_journal(path: Path) -> None:
    with pytest.raises(JournalMissingError):
        Journal.open(path)
    assert not path.exists()


def test_special_file_is_refused(tmp_path: Path) -> None:
    directory, fifo, astray = (tmp_path / name for name in ("directory", "fifo", "astray"))
    directory.mkdir()
    os.mkfifo(fifo)
    astray.symlink_to(tmp_path / "nowhere")
    for path in (directory, fifo, astray):
        with pytest.raises(JournalUnreadableError):
            Journal.open(path)


def _edit(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        'UPDATE events SET data = \'{"step": "other"}\' WHERE number = 2',
        "DELETE FROM events WHERE number = 1",
        "UPDATE events SET number = 9 WHERE number = 3",
        "UPDATE events SET hash = 'x' WHERE number = 3",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 1",
        "UPDATE changes SET state = 'strange'",
        "UPDATE changes SET created_at = 'yesterday'",
        "UPDATE steps SET name = 'dance'",
        "DROP TABLE events",
    ],
)
def test_altered_journal_is_refused(journal: Journal, path: Path, sql: str) -> None:
    journal.begin_change(CHANGE)
    journal.record_step(CHANGE.id, StepName.FETCH, StepState.INTENDED)
    journal.record_step(CHANGE.id, StepName.FETCH, StepState.DONE)
    journal.close()
    Journal.open(path).close()
    _edit(path, sql)
    with pytest.raises(JournalUnreadableError):
        Journal.open(path)


@pytest.mark.parametrize("kept", [0, 1, 100, 4096, 5000, 12_288])
def test_truncated_journal_is_refused_and_preserved(
    journal: Journal, path: Path, kept: int
) -> None:
    journal.begin_change(CHANGE)
    journal.close()
    content = path.read_bytes()[:kept]
    path.write_bytes(content)
    with pytest.raises(JournalUnreadableError):
        Journal.open(path)
    assert path.read_bytes() == content


def test_failed_write_is_an_error(journal: Journal, path: Path) -> None:
    journal.begin_change(CHANGE)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    journal._connection.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(JournalUnwritableError):
        journal.record_step(CHANGE.id, StepName.FETCH, StepState.INTENDED)
    other.close()
    assert journal.read_change(CHANGE.id).steps == {}


KILLED = """
import os, signal, sys
from pathlib import Path
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.model.change_facts import ChangeFacts
journal = Journal.open(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    journal.store_facts("abcdefgh", ChangeFacts(lost_records=number))
    print(number, flush=True)
with journal.transaction() as connection:
    journal._store_facts("abcdefgh", ChangeFacts(lost_records=-1))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("records", [0, 1, 7])
def test_killed_writer_loses_no_acknowledged_record(
    journal: Journal, path: Path, records: int
) -> None:
    journal.begin_change(CHANGE)
    journal.close()
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(records)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    assert ended.returncode == -9, ended.stderr
    acknowledged = ended.stdout.split()
    with Journal.open(path) as again:
        expected = int(acknowledged[-1]) if acknowledged else None
        assert again.read_facts(CHANGE.id).lost_records == expected


TEARS = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN IMMEDIATE")
row = "INSERT INTO events VALUES (?, '2026-01-02T03:04:05+00:00', NULL, 'x', ?, 'none')"
for number in range(2, 2000):
    connection.execute(row, (number, "y" * 2000))
os.kill(os.getpid(), 9)
"""


def test_interrupted_write_is_tolerated_by_readers(journal: Journal, path: Path) -> None:
    """Seen: after a SIGKILL in a write every look called a good journal untrustworthy (NU-6002)."""
    journal.begin_change(CHANGE)
    journal.close()
    subprocess.run([sys.executable, "-c", TEARS, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    with Journal.open(path, read_only=True) as again:
        assert again.verify_chain() == 1
        change = again.find_open_change()
    assert change is not None
    assert change.id == CHANGE.id


def test_interrupted_write_without_write_access_is_reported(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.begin_change(CHANGE)
    journal.close()
    subprocess.run([sys.executable, "-c", TEARS, str(path)], check=False)
    connect = journal_file._connect
    # Root may write whatever the rights are: another user's connection reads only.
    monkeypatch.setattr(journal_file, "_connect", lambda path, _mode: connect(path, "ro"))
    with refused(JOURNAL_INTERRUPTED):
        Journal.open(path, read_only=True)


def test_bad_releases_and_holds_are_stored(journal: Journal) -> None:
    memory = SiteHistory(journal)
    memory.mark_bad("ncen", "3.3.0", "NU-4006", None)
    memory.mark_bad("ncen", "3.3.0", "NU-6008", None)
    (bad,) = memory.list_bad_releases()
    assert (bad.version, bad.code, bad.failures) == ("3.3.0", "NU-6008", 2)
    memory.add_hold("audit", "amina", None)
    memory.add_hold("audit 2", "bo", AT)
    assert [hold.reason for hold in memory.list_holds()] == ["audit", "audit 2"]
    assert memory.lift_holds("amina") == 2
    assert memory.list_holds() == ()
    assert journal.verify_chain() == 5


def test_first_event_is_written_at_creation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal without it could not be created again, and would be empty."""

    def interrupt(source: Path, _target: Path) -> None:
        with Journal.open(source) as journal:
            assert [event.kind for event in journal.list_events()] == ["adopted"]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ncen_updater.common.atomic_files.rename_entry", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Journal.create(path, first_event=("adopted", {"release": "3.2.4"}))
    assert not path.exists()
    with Journal.create(path, first_event=("adopted", {"release": "3.2.4"})) as journal:
        assert journal.list_events()[0]["release"] == "3.2.4"
