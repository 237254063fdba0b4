"""Approvals, schedules, orders and rehearsals in the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.engine.approvals.model import ApprovalBasis, count_approvals
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopies, RehearsalReport
from ncen_updater.agent.engine.rehearsal.store import Rehearsals, RehearsalState
from ncen_updater.agent.model.errors import JournalUnreadable
from ncen_updater.agent.model.person import Person
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import OrderKind, Orders

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AMINA, BO = Person("amina", 1001), Person("bo", 1002)
BASIS = ApprovalBasis("p", {"seizures": "s"}, "c", "r", {"seizures": 5}, NOW)
BINDING = BASIS.binding()
REPORT = RehearsalReport(plan="a" * 64, backup_s=2.0, sizes={"cases": 8192})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "journal", now=lambda: NOW) as made:
        yield made


def kinds(journal: Journal) -> list[str]:
    return [event.kind for event in journal.events()]


def test_a_basis_survives_the_journal() -> None:
    assert ApprovalBasis.from_json(BASIS.to_json()) == BASIS
    without = replace(BASIS, at=None)
    assert ApprovalBasis.from_json(without.to_json()) == without


#: As the agent before the one codec wrote it, and the digest that approvals carried.
STORED = (
    '{"at": "2026-03-01T12:00:00+00:00", "configuration": "c", "plan": "p", "rehearsal": "r",'
    ' "schemas": {"seizures": "s"}, "sizes": {"seizures": 5}}'
)
STORED_BINDING = "01e614882e7896d12c1f4f12684792add048c3ea250cca1e36fe38ef50dcfebb"


def test_what_was_approved_before_is_read_and_bound_as_it_was() -> None:
    basis = ApprovalBasis.from_json(json.loads(STORED))
    assert basis.binding() == STORED_BINDING
    assert basis.sizes == {"seizures": 5}
    assert json.dumps(basis.to_json(), sort_keys=True) == STORED


def test_two_people_approve_and_one_takes_it_back(journal: Journal) -> None:
    consent = ApprovalStore(journal)
    assert consent.approve(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    assert not consent.approve(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    assert count_approvals(consent.approvals(BINDING), BINDING, 2).missing == 1
    assert consent.approve(BINDING, "3.3.0", BASIS.to_json(), BO)
    assert count_approvals(consent.approvals(BINDING), BINDING, 2)
    assert consent.approvals("0" * 64) == ()
    assert consent.withdraw(BINDING, BO) == 1
    assert consent.withdraw(BINDING, BO) == 0
    assert [approval.who for approval in consent.approvals(BINDING)] == ["amina"]
    # Whoever took it back may give it again.
    assert consent.approve(BINDING, "3.3.0", BASIS.to_json(), BO)
    assert kinds(journal) == ["approved", "approved", "approval-withdrawn", "approved"]
    journal.verify_chain()


def test_what_was_last_approved_is_known_when_it_holds_no_longer(journal: Journal) -> None:
    consent = ApprovalStore(journal)
    assert consent.last_basis("3.3.0") is None
    consent.approve(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    assert consent.last_basis("3.4.0") is None
    stored = consent.last_basis("3.3.0")
    assert stored is not None
    assert ApprovalBasis.from_json(stored) == BASIS


def test_the_last_chosen_time_counts(journal: Journal) -> None:
    consent = ApprovalStore(journal)
    assert consent.scheduled(BINDING) is None
    consent.schedule(BINDING, "3.3.0", NOW + timedelta(days=1), AMINA)
    consent.schedule(BINDING, "3.3.0", NOW + timedelta(days=2), BO)
    found = consent.scheduled(BINDING)
    assert found is not None
    assert (found.not_before, found.who) == (NOW + timedelta(days=2), "bo")
    assert consent.scheduled("0" * 64) is None
    assert consent.cancel_schedule(AMINA) == 1
    assert consent.cancel_schedule(AMINA) == 0
    assert consent.scheduled(BINDING) is None


def test_orders_are_taken_in_turn_and_never_twice(journal: Journal) -> None:
    orders = Orders(journal)
    assert orders.waiting() is None
    first = orders.give(OrderKind.CHECK, {}, AMINA)
    second = orders.give(OrderKind.UPGRADE, {"version": "3.3.0"}, BO)
    waiting = orders.waiting()
    assert waiting is not None
    assert (waiting.id, waiting.kind, waiting.person) == (first, OrderKind.CHECK, AMINA)
    orders.take(first)
    waiting = orders.waiting()
    assert waiting is not None
    assert (waiting.id, waiting.data) == (second, {"version": "3.3.0"})
    assert [order.id for order in orders.interrupted()] == [first]
    orders.end(first, {"exit_code": 0})
    assert orders.interrupted() == ()
    ended = orders.order(first)
    assert ended is not None
    assert ended.result == {"exit_code": 0}
    assert orders.order(99) is None
    journal.verify_chain()


def test_the_newest_rehearsal_of_a_way_counts(journal: Journal) -> None:
    rehearsals = Rehearsals(journal)
    assert rehearsals.last("3.2.4", "3.3.0") is None
    rehearsals.begin("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopies({}))
    assert [record.id for record in rehearsals.interrupted()] == ["aaaaaaaa"]
    rehearsals.end("aaaaaaaa", RehearsalState.FAILED, error_code="NU-4012")
    rehearsals.begin("bbbbbbbb", "3.2.4", "3.3.0", RehearsalCopies())
    rehearsals.end("bbbbbbbb", RehearsalState.PASSED, basis=BASIS.to_json(), left=REPORT)
    last = rehearsals.last("3.2.4", "3.3.0")
    assert last is not None
    assert (last.id, last.state) == ("bbbbbbbb", RehearsalState.PASSED)
    assert last.report == REPORT
    assert last.mark.startswith("bbbbbbbb:")
    assert replace(last, stored={**REPORT.to_json(), "plan": "b" * 64}).mark != last.mark
    assert rehearsals.last("3.2.4", "3.4.0") is None
    assert rehearsals.interrupted() == ()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("approvals", "at", "'yesterday'"),
        ("approvals", "basis", "'['"),
        ("approvals", "basis", "'7'"),
        ("schedules", "not_before", "'soon'"),
        ("orders", "kind", "'dance'"),
        ("orders", "data", "'{'"),
        ("rehearsals", "report", "'{'"),
        ("rehearsals", "started_at", "'x'"),
    ],
)
def test_odd_rows_make_the_journal_unreadable(
    journal: Journal, table: str, column: str, value: str
) -> None:
    ApprovalStore(journal).approve(BINDING, "3.3.0", BASIS.to_json(), AMINA)
    ApprovalStore(journal).schedule(BINDING, "3.3.0", NOW, AMINA)
    Orders(journal).give(OrderKind.CHECK, {}, AMINA)
    Rehearsals(journal).begin("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopies({}))
    with journal.transaction() as connection:
        connection.execute(f"UPDATE {table} SET {column} = {value}")

    def read() -> None:
        ApprovalStore(journal).approvals(BINDING)
        ApprovalStore(journal).last_basis("3.3.0")
        ApprovalStore(journal).scheduled(BINDING)
        Orders(journal).waiting()
        Rehearsals(journal).last("3.2.4", "3.3.0")

    with pytest.raises(JournalUnreadable):
        read()
