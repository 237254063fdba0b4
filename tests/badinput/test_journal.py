"""Tests of an invalid or altered journal: it stops the operation, and is preserved."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.elapsed_time import read_retention_ages, record_elapsed_time
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import Actor, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import JournalMissingError, JournalUnreadableError
from ncen_updater.agent.reports.status import read_journal_snapshot
from ncen_updater.agent.service.site_report import build_change_report
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import JOURNAL_EXISTS
from tests.agent.cli.site import CHANGE, make_site
from tests.badinput.hostile import DEEP, FEW, HUGE, NO_FILES, bounded, typed
from tests.support.errors import has_message

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def make(path: Path, *, ended: bool = False) -> None:
    path.unlink(missing_ok=True)
    with Journal.create(path) as journal:
        journal.begin_change(CHANGE, ChangeFacts(copy_plan={"a": {"oid": 1}}))
        journal.record_step(CHANGE.id, StepName.FETCH, StepState.INTENDED)
        SiteHistory(journal).add_hold("a reason", "somebody", None)
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-1", None)
        if ended:
            journal.set_change_state(CHANGE.id, ChangeState.REVERTED)


def read_all(path: Path, *, read_only: bool) -> None:
    """Everything that the commands ask a journal for."""
    with Journal.open(path, read_only=read_only) as journal:
        memory = SiteHistory(journal)
        journal.find_open_change()
        for change in journal.list_changes():
            journal.read_facts(change.id)
        [dict(event) for event in journal.list_events()]
        memory.list_holds()
        memory.list_bad_releases()
        memory.list_previous_databases()


NESTED = "[" * 300 + "]" * 300  # Python reads it, and fails where it is shown
ALTERED = {
    "a table without a column": "ALTER TABLE changes DROP COLUMN attempts",
    "no table of changes": "PRAGMA foreign_keys=OFF; DROP TABLE changes",
    "no table of facts": "DROP TABLE facts",
    "no table of holds": "DROP TABLE holds",
    "no guard against two changes": "DROP INDEX one_open_change",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM facts; END",
    "a view in place of a table": "DROP TABLE holds; CREATE VIEW holds AS SELECT 1 AS id",
    "another schema": "PRAGMA user_version=99",
    "a negative schema": "PRAGMA user_version=-1",
    "another program": "PRAGMA application_id=7",
    "write-ahead": "PRAGMA journal_mode=WAL",
    "a kind that is none": "UPDATE changes SET kind = 'x'",
    "a state that is none": "UPDATE changes SET state = 'x'",
    "a mode that is none": "UPDATE changes SET mode = 'x'",
    "a state of a step that is none": "UPDATE steps SET state = 'x'",
    "a time that is none": "UPDATE changes SET created_at = 'x'",
    "a step that is none": "UPDATE steps SET name = 'x'",
    "a step without a time": "UPDATE steps SET started_at = ''",
    "a fact that is no JSON": "UPDATE facts SET value = 'x'",
    "a fact nested deeply": f"UPDATE facts SET value = '{'[' * DEEP}'",
    "a fact nested more deeply than ours": f"UPDATE facts SET value = '{NESTED}'",
    "an event nested more deeply than ours": f"""UPDATE events SET data = '{{"a": {NESTED}}}'""",
    "a fact too long": f"UPDATE facts SET value = '{HUGE}'",
    "a fact of another kind": "UPDATE facts SET value = '7'",
    "text that is not UTF-8": "UPDATE changes SET product = CAST(x'ff' AS TEXT)",
    "a fact that is not UTF-8": "UPDATE facts SET value = CAST(x'ff' AS TEXT)",
    "a hold without a time": "UPDATE holds SET since = 'x'",
    "a hold that is not UTF-8": "UPDATE holds SET reason = CAST(x'ff' AS TEXT)",
    "a bad release without a time": "UPDATE bad_releases SET last_at = 'x'",
    "an event without a time": "UPDATE events SET at = 'x'",
    "an event that is no object": "UPDATE events SET data = '[1]'",
    "an event that is no JSON": "UPDATE events SET data = '{'",
}


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
@pytest.mark.parametrize("name", ALTERED)
def test_altered_journal_is_refused(
    tmp_path: Path, name: str, read_only: bool, ended: bool
) -> None:
    path = tmp_path / "journal.sqlite"
    make(path, ended=ended)
    connection = sqlite3.connect(path)
    connection.executescript(ALTERED[name])
    connection.close()
    before = path.read_bytes()
    error = typed(lambda: read_all(path, read_only=read_only))
    assert isinstance(error, JournalUnreadableError)
    assert path.read_bytes() == before


@pytest.mark.parametrize("alter", [
    "changes SET kind = 'x'", "changes SET mode = 'x'",
    "changes SET state = 'x'", "changes SET created_at = '2026-01-02T03:04:05'",
    "steps SET state = 'x'",
])  # fmt: skip
def test_unknown_words_make_a_change_unreadable(tmp_path: Path, alter: str) -> None:
    path = tmp_path / "journal.sqlite"
    make(path, ended=True)
    with Journal.open(path, read_only=True) as journal:
        assert journal.read_change(CHANGE.id).ended_at
        with closing(sqlite3.connect(path)) as other:
            other.execute(f"UPDATE {alter}")
            other.commit()
        assert isinstance(typed(lambda: journal.read_change(CHANGE.id)), JournalUnreadableError)
        with pytest.raises(KeyError):
            journal.read_change("nothing2")


AMINA = Actor("amina", 1001)


#: What is stored with a time, and who reads it.
TIMES: dict[str, Callable[[Journal], object]] = {
    "events SET at": lambda journal: journal.list_events(),
    "holds SET since": lambda journal: SiteHistory(journal).list_holds(),
    "holds SET until": lambda journal: SiteHistory(journal).list_holds(),
    "bad_releases SET last_at": lambda journal: SiteHistory(journal).list_bad_releases(),
    "jobs SET at": lambda journal: JobQueue(journal).list_unfinished(),
    "approvals SET at": lambda journal: ApprovalStore(journal).list_active(),
    "schedules SET not_before": lambda journal: ApprovalStore(journal).list_schedules(),
    "rehearsals SET started_at": lambda journal: RehearsalStore(journal).list_newest(),
    "elapsed SET wall": lambda journal: read_retention_ages(journal, SystemClock()),
}


def test_time_without_a_zone_is_refused_in_any_table(tmp_path: Path) -> None:
    path, amina = tmp_path / "journal.sqlite", Actor("amina", 1001)
    with Journal.create(path) as journal:
        SiteHistory(journal).add_hold("a reason", "somebody", NOW)
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-1", None)
        JobQueue(journal).enqueue(JobKind.CHECK, {}, amina)
        ApprovalStore(journal).add("b" * 64, "3.3.0", {}, amina, 1)
        ApprovalStore(journal).set_schedule("b" * 64, "3.3.0", NOW, amina)
        RehearsalStore(journal).record_start("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopyPlans())
        record_elapsed_time(journal, SystemClock())
    whole = path.read_bytes()
    for number, (place, read) in enumerate(TIMES.items()):
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(whole)
        with Journal.open(path, read_only=True) as journal:
            read(journal)
        with closing(sqlite3.connect(path)) as other:
            assert other.execute(f"UPDATE {place} = '2026-01-02T03:04:05'").rowcount
            other.commit()
        with Journal.open(path, read_only=True) as journal:
            error = typed(partial(read, journal))
        assert isinstance(error, JournalUnreadableError), place
        assert "zone" in str(error.values["reason"]), place


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("place", [
    "changes SET created_at", "steps SET started_at", "steps SET ended_at",
])  # fmt: skip
def test_time_without_a_zone_is_a_typed_error(tmp_path: Path, place: str, ended: bool) -> None:
    """Seen: 'history' of a change ended with an error that was none of ours."""
    site = make_site(tmp_path)
    make(site.journal, ended=ended)
    connection = sqlite3.connect(site.journal)
    connection.execute(f"UPDATE {place} = '2026-01-02T03:04:05'")
    connection.commit()
    connection.close()
    acts: tuple[Callable[[Journal], object], ...] = (
        lambda journal: build_change_report(journal, CHANGE.id),
        lambda journal: read_journal_snapshot(journal, NOW),
    )

    def look(act: Callable[[Journal], object]) -> None:
        with Journal.open(site.journal, read_only=True) as journal:
            act(journal)

    for act in acts:
        assert isinstance(typed(partial(look, act)), JournalUnreadableError)
    for words in (["history", CHANGE.id], ["status"]):
        ran = site.run("--json", *words)
        assert "NU-6002" in ran.stdout, ran.stderr
        assert "NU-0001" not in ran.stdout


@pytest.mark.parametrize("kind", NO_FILES)
def test_non_journals_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "journal.sqlite"
    NO_FILES[kind](path)
    with bounded():
        error = typed(lambda: read_all(path, read_only=False))
        assert isinstance(error, JournalUnreadableError)
        assert has_message(typed(lambda: Journal.create(path)), JOURNAL_EXISTS)


def _away(path: Path) -> None:
    path.symlink_to("/nowhere/journal.sqlite")


@pytest.mark.parametrize("act", [Journal.create, Journal.open])
def test_symlink_to_an_unreachable_disk_is_not_replaced(
    tmp_path: Path, act: Callable[[Path], object]
) -> None:
    path = tmp_path / "journal.sqlite"
    _away(path)
    error = typed(lambda: act(path))
    assert has_message(error, JOURNAL_EXISTS, JournalMissingError, JournalUnreadableError)
    assert path.is_symlink()


@FEW
@given(place=st.integers(0, 200_000), more=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_spoilt_journals_are_refused(tmp_path: Path, place: int, more: bytes, cut: bool) -> None:
    good = tmp_path / "good.sqlite"
    if not good.exists():
        make(good)
    content = good.read_bytes()
    place %= len(content)
    content = content[:place] if cut else content[:place] + more + content[place + len(more) :]
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    typed(lambda: read_all(path, read_only=True))
    typed(lambda: read_all(path, read_only=False))
    assert path.read_bytes() == content
