"""A journal that is none, or was altered: it stops the work, and stays as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.engine.errors import JournalMissing, JournalUnreadable
from ncen_updater.agent.journal.change import ChangeState, StepName, StepState
from ncen_updater.agent.journal.facts import ChangeFacts
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.agent.service.report import change_report
from ncen_updater.agent.status import journal_facts
from ncen_updater.common.messages import JOURNAL_EXISTS
from tests.agent.cli.site import CHANGE, make_site
from tests.badinput.hostile import DEEP, FEW, HUGE, NO_FILES, bounded, typed
from tests.support.errors import says

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def make(path: Path, *, ended: bool = False) -> None:
    path.unlink(missing_ok=True)
    with Journal.create(path) as journal:
        journal.begin(CHANGE, ChangeFacts(copy={"a": {"oid": 1}}))
        journal.step(CHANGE.id, StepName.FETCH, StepState.INTENDED)
        SiteHistory(journal).hold("a reason", "somebody", None)
        SiteHistory(journal).remember_bad("ncen", "3.3.0", "NU-1", None)
        if ended:
            journal.state(CHANGE.id, ChangeState.UNDONE)


def read_all(path: Path, *, read_only: bool) -> None:
    """Everything that the commands ask a journal for."""
    with Journal.open(path, read_only=read_only) as journal:
        memory = SiteHistory(journal)
        journal.open_change()
        for change in journal.changes():
            journal.facts(change.id)
        [dict(event) for event in journal.events()]
        memory.holds()
        memory.bad_releases()
        memory.previous_sets()


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
    "a time that is none": "UPDATE changes SET created_at = 'x'",
    "a step that is none": "UPDATE steps SET name = 'x'",
    "a step without a time": "UPDATE steps SET started_at = ''",
    "a fact that is no JSON": "UPDATE facts SET value = 'x'",
    "a fact nested deeply": f"UPDATE facts SET value = '{'[' * DEEP}'",
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
def test_an_altered_journal(tmp_path: Path, name: str, read_only: bool, ended: bool) -> None:
    path = tmp_path / "journal.sqlite"
    make(path, ended=ended)
    connection = sqlite3.connect(path)
    connection.executescript(ALTERED[name])
    connection.close()
    before = path.read_bytes()
    error = typed(lambda: read_all(path, read_only=read_only))
    assert isinstance(error, JournalUnreadable)
    assert path.read_bytes() == before


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("place", [
    "changes SET created_at", "steps SET started_at", "steps SET ended_at",
])  # fmt: skip
def test_a_time_without_its_zone(tmp_path: Path, place: str, ended: bool) -> None:
    """Seen: 'history' of a change ended with an error that was none of ours."""
    site = make_site(tmp_path)
    make(site.journal, ended=ended)
    connection = sqlite3.connect(site.journal)
    connection.execute(f"UPDATE {place} = '2026-01-02T03:04:05'")
    connection.commit()
    connection.close()
    with Journal.open(site.journal, read_only=True) as journal:
        error = typed(lambda: change_report(journal, CHANGE.id))
        assert isinstance(error, JournalUnreadable)
        error = typed(lambda: journal_facts(journal, NOW))
        assert isinstance(error, JournalUnreadable)
    for words in (["history", CHANGE.id], ["status"]):
        ran = site.run("--json", *words)
        assert "NU-6002" in ran.stdout, ran.stderr
        assert "NU-0001" not in ran.stdout


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_journal(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "journal.sqlite"
    NO_FILES[kind](path)
    with bounded():
        error = typed(lambda: read_all(path, read_only=False))
        assert isinstance(error, JournalUnreadable)
        assert says(typed(lambda: Journal.create(path)), JOURNAL_EXISTS)


def _away(path: Path) -> None:
    path.symlink_to("/nowhere/journal.sqlite")


@pytest.mark.parametrize("act", [Journal.create, Journal.open])
def test_a_link_to_a_disk_that_is_away_is_not_replaced(
    tmp_path: Path, act: Callable[[Path], object]
) -> None:
    path = tmp_path / "journal.sqlite"
    _away(path)
    error = typed(lambda: act(path))
    assert says(error, JOURNAL_EXISTS, JournalMissing, JournalUnreadable)
    assert path.is_symlink()


@FEW
@given(place=st.integers(0, 200_000), more=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_a_spoilt_journal(tmp_path: Path, place: int, more: bytes, cut: bool) -> None:
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
