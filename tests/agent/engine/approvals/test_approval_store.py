"""Tests of approvals, schedules, jobs and rehearsals in the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.engine.approvals.approval import ApprovalBasis, count_approvals
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans, RehearsalReport
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)
BASIS = ApprovalBasis("p", {"seizures": "s"}, "c", "r", {"seizures": 5}, NOW)
BINDING = BASIS.compute_binding()
REPORT = RehearsalReport(plan="a" * 64, backup_s=2.0, sizes={"cases": 8192})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "journal", now=lambda: NOW) as made:
        yield made


def kinds(journal: Journal) -> list[str]:
    return [event.kind for event in journal.list_events()]


def test_basis_survives_the_journal() -> None:
    assert ApprovalBasis.from_json(BASIS.to_json()) == BASIS
    without = replace(BASIS, rehearsed_at=None)
    assert ApprovalBasis.from_json(without.to_json()) == without


#: As the agent before the one codec wrote it, and the digest that approvals carried.
STORED = (
    '{"configuration": "c", "plan": "p", "rehearsal": "r",'
    ' "rehearsed_at": "2026-03-01T12:00:00+00:00", "schemas": {"seizures": "s"},'
    ' "sizes": {"seizures": 5}}'
)
STORED_BINDING = "01e614882e7896d12c1f4f12684792add048c3ea250cca1e36fe38ef50dcfebb"


def test_earlier_approvals_are_read_unchanged() -> None:
    basis = ApprovalBasis.from_json(json.loads(STORED))
    assert basis.compute_binding() == STORED_BINDING
    assert basis.sizes == {"seizures": 5}
    assert json.dumps(basis.to_json(), sort_keys=True) == STORED


def test_two_approvers_approve_and_one_withdraws(journal: Journal) -> None:
    consent = ApprovalStore(journal)
    assert consent.add(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    assert not consent.add(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    assert count_approvals(consent.list_for_binding(BINDING), BINDING, 2).missing == 1
    assert consent.add(BINDING, "3.3.0", BASIS.to_json(), BO)
    assert count_approvals(consent.list_for_binding(BINDING), BINDING, 2)
    assert consent.list_for_binding("0" * 64) == ()
    assert consent.withdraw(BINDING, BO) == 1
    assert consent.withdraw(BINDING, BO) == 0
    assert [approval.actor for approval in consent.list_for_binding(BINDING)] == ["amina"]
    # Anyone who took it back may give it again.
    assert consent.add(BINDING, "3.3.0", BASIS.to_json(), BO)
    assert kinds(journal) == ["approved", "approved", "approval-withdrawn", "approved"]
    journal.verify_chain()


def test_last_approved_basis_is_known_after_it_is_void(journal: Journal) -> None:
    consent = ApprovalStore(journal)
    assert consent.read_last_basis("3.3.0") is None
    consent.add(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    assert consent.read_last_basis("3.4.0") is None
    stored = consent.read_last_basis("3.3.0")
    assert stored is not None
    assert ApprovalBasis.from_json(stored) == BASIS


def test_latest_schedule_applies(journal: Journal) -> None:
    consent = ApprovalStore(journal)
    assert consent.find_schedule(BINDING) is None
    consent.set_schedule(BINDING, "3.3.0", NOW + timedelta(days=1), AMINA)
    consent.set_schedule(BINDING, "3.3.0", NOW + timedelta(days=2), BO)
    found = consent.find_schedule(BINDING)
    assert found is not None
    assert (found.not_before, found.actor) == (NOW + timedelta(days=2), "bo")
    assert consent.find_schedule("0" * 64) is None
    assert consent.cancel_schedule(AMINA) == 1
    assert consent.cancel_schedule(AMINA) == 0
    assert consent.find_schedule(BINDING) is None


def test_jobs_are_taken_in_order_and_once(journal: Journal) -> None:
    orders = JobQueue(journal)
    assert orders.find_next() is None
    first = orders.enqueue(JobKind.CHECK, {}, AMINA)
    second = orders.enqueue(JobKind.UPGRADE, {"version": "3.3.0"}, BO)
    waiting = orders.find_next()
    assert waiting is not None
    assert (waiting.id, waiting.kind, waiting.actor) == (first, JobKind.CHECK, AMINA)
    orders.mark_started(first)
    waiting = orders.find_next()
    assert waiting is not None
    assert (waiting.id, waiting.data) == (second, {"version": "3.3.0"})
    assert [order.id for order in orders.list_interrupted()] == [first]
    orders.mark_ended(first, {"exit_code": 0})
    assert orders.list_interrupted() == ()
    ended = orders.find(first)
    assert ended is not None
    assert ended.result == {"exit_code": 0}
    assert orders.find(99) is None
    journal.verify_chain()


def test_latest_rehearsal_of_a_path_applies(journal: Journal) -> None:
    rehearsals = RehearsalStore(journal)
    assert rehearsals.find_last("3.2.4", "3.3.0") is None
    rehearsals.record_start("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopyPlans({}))
    assert [record.id for record in rehearsals.list_interrupted()] == ["aaaaaaaa"]
    rehearsals.record_end("aaaaaaaa", RehearsalState.FAILED, error_code="NU-4012")
    rehearsals.record_start("bbbbbbbb", "3.2.4", "3.3.0", RehearsalCopyPlans())
    rehearsals.record_end("bbbbbbbb", RehearsalState.PASSED, basis=BASIS.to_json(), result=REPORT)
    last = rehearsals.find_last("3.2.4", "3.3.0")
    assert last is not None
    assert (last.id, last.state) == ("bbbbbbbb", RehearsalState.PASSED)
    assert last.report == REPORT
    assert last.identity.startswith("bbbbbbbb:")
    assert (
        replace(last, stored_result={**REPORT.to_json(), "plan": "b" * 64}).identity
        != last.identity
    )
    assert rehearsals.find_last("3.2.4", "3.4.0") is None
    assert rehearsals.list_interrupted() == ()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("approvals", "at", "'yesterday'"),
        ("approvals", "basis", "'['"),
        ("approvals", "basis", "'7'"),
        ("schedules", "not_before", "'soon'"),
        ("jobs", "kind", "'dance'"),
        ("jobs", "data", "'{'"),
        ("rehearsals", "report", "'{'"),
        ("rehearsals", "started_at", "'x'"),
    ],
)
def test_invalid_rows_make_the_journal_unreadable(
    journal: Journal, table: str, column: str, value: str
) -> None:
    ApprovalStore(journal).add(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    ApprovalStore(journal).set_schedule(BINDING, "3.3.0", NOW, AMINA)
    JobQueue(journal).enqueue(JobKind.CHECK, {}, AMINA)
    RehearsalStore(journal).record_start("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopyPlans({}))
    with journal.transaction() as connection:
        connection.execute(f"UPDATE {table} SET {column} = {value}")

    def read() -> None:
        ApprovalStore(journal).list_for_binding(BINDING)
        ApprovalStore(journal).read_last_basis("3.3.0")
        ApprovalStore(journal).find_schedule(BINDING)
        JobQueue(journal).find_next()
        RehearsalStore(journal).find_last("3.2.4", "3.3.0")

    with pytest.raises(JournalUnreadableError):
        read()
