"""Tests that ``verify`` finds careful alterations of the journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.model.change import Actor, ChangeState, StepName, StepState
from ncen_updater.agent.reports.diagnostics.verify import _check_chain_heads, _check_tables
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.journal_file import FIRST_HASH, compute_chain_hash
from ncen_updater.agent.storage.journal.rows import ChainHead
from tests.agent.cli.site import CHANGE

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)
ONE, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A journal of a site where much was done."""
    path = tmp_path / "journal.sqlite"
    with Journal.create(path, now=lambda: NOW) as journal:
        store, orders = ApprovalStore(journal), JobQueue(journal)
        store.add(ONE, "3.3.0", {"plan": "p"}, AMINA)
        store.add(OTHER, "3.3.0", {"plan": "p"}, AMINA)
        store.withdraw(OTHER, AMINA)
        store.add(ONE, "3.3.0", {"plan": "p"}, BO)
        number = orders.enqueue(JobKind.UPGRADE, {"version": "3.3.0"}, AMINA)
        orders.mark_started(number)
        journal.begin_change(CHANGE)
        journal.record_step(CHANGE.id, StepName.FETCH, StepState.INTENDED)
        store.consume_all(CHANGE.id)
        journal.commit_change(CHANGE.id)
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
        orders.mark_ended(number, {"exit_code": 0})
        orders.enqueue(JobKind.CHECK, {}, BO)
        store.add(OTHER, "back to 3.2.4", {}, AMINA, event=("rollback-approved", "3.2.4"))
        store.add(ONE, "3.3.1", {}, BO)
        store.consume("bbbbbbbb", ONE)
    yield path


def finding_codes(path: Path, *heads: ChainHead) -> list[str]:
    """Codes of what is found; the chain itself closes."""
    with Journal.open(path, read_only=True) as journal:
        assert journal.verify_chain() > 0
        found = [*_check_chain_heads(journal, heads), *_check_tables(journal)]
        return [finding.code for finding in found]


def head(path: Path) -> ChainHead:
    with Journal.open(path, read_only=True) as journal:
        return journal.read_head()


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def rebuild_chain(path: Path) -> None:
    """Rebuild the hash chain, as an informed attacker would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        previous = FIRST_HASH
        rows = connection.execute(
            "SELECT number, at, change, kind, data FROM events ORDER BY number"
        ).fetchall()
        for number, at, change, kind, data in rows:
            previous = compute_chain_hash(previous, number, at, change, kind, json.loads(data))
            connection.execute("UPDATE events SET hash = ? WHERE number = ?", (previous, number))


def test_unaltered_journal_is_consistent(path: Path) -> None:
    kept = head(path)
    assert finding_codes(path, kept, ChainHead(kept.number, kept.hash[:16])) == []
    with Journal.open(path) as journal:
        journal.record_event("more")
    assert finding_codes(path, kept) == []


def test_truncated_events_are_detected_by_the_chain_head(path: Path) -> None:
    """The chain is valid; only a stored chain head reveals it."""
    kept = head(path)
    alter(path, f"DELETE FROM events WHERE number = {kept.number}")
    assert "NU-6108" in finding_codes(path, kept)


def test_rewritten_event_with_a_rebuilt_chain_is_detected(path: Path) -> None:
    kept = head(path)
    alter(path, "UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE number = 4")
    rebuild_chain(path)
    assert finding_codes(path) == [], "that alone cannot be seen"
    assert finding_codes(path, kept) == ["NU-6109"]
    with Journal.open(path) as journal:
        journal.record_event("more")
    assert finding_codes(path, kept) == ["NU-6109"]
    with Journal.open(path) as journal:
        (found,) = _check_chain_heads(journal, [kept])
    assert str(found.remedy).startswith("Check the chain head"), "a slip of the hand comes first"


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO approvals (binding, to_version, basis, actor, uid, at)"
        f" VALUES ('{ONE}', '3.3.0', '{{}}', 'bo', 1002, '2026-11-24T12:00:00+00:00')",
        "UPDATE approvals SET withdrawn_at = NULL, withdrawn_by = NULL",
        "DELETE FROM approvals WHERE withdrawn_at IS NULL",
        "UPDATE approvals SET uid = 1003, actor = 'third' WHERE withdrawn_at IS NULL",
        "UPDATE changes SET from_version = '3.1.0'",
        "UPDATE changes SET kind = 'rollback'",
        "UPDATE changes SET state = 'reverted'",
        "UPDATE changes SET id = 'aaaaaaaa'",
        "UPDATE jobs SET actor = 'bo', uid = 1002 WHERE id = 1",
        "UPDATE jobs SET data = '{}' WHERE id = 1",
        "UPDATE jobs SET kind = 'rollback' WHERE id = 2",
        "UPDATE jobs SET ended_at = NULL WHERE id = 1",
        "DELETE FROM jobs WHERE id = 2",
        "INSERT INTO jobs (kind, data, actor, uid, at)"
        " VALUES ('rollback', '{}', 'bo', 1002, '2026-11-24T12:00:00+00:00')",
    ],
)
def test_record_without_its_event_is_detected(path: Path, statement: str) -> None:
    alter(path, statement)
    found = finding_codes(path)
    assert set(found) == {"NU-6110"}, found


def test_event_without_its_record_is_detected(path: Path) -> None:
    """As by an attacker who only rebuilds the chain."""
    alter(path, "DELETE FROM events WHERE kind IN ('change-started', 'job-queued')")
    with closing(sqlite3.connect(path)) as connection, connection:
        numbers = connection.execute("SELECT number FROM events ORDER BY number").fetchall()
        for new, (old,) in enumerate(numbers, 1):
            connection.execute("UPDATE events SET number = ? WHERE number = ?", (new, old))
    rebuild_chain(path)
    assert finding_codes(path) == ["NU-6110"] * 3


@pytest.mark.parametrize("text", ["", "5", "5:xyz", "0:" + "a" * 64, "5:abc", "x:" + "a" * 64])
def test_invalid_chain_head_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="no NUMBER:HASH"):
        ChainHead.parse(text)


def test_displayed_chain_head_is_parsed(path: Path) -> None:
    kept = head(path)
    assert ChainHead.parse(f" {kept}\n".upper()) == kept
