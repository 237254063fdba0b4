"""Tests that a status costs the same, however many changes the journal holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.agent.engine.approvals.rollback_approvals import (
    find_installing_upgrade,
    find_rollback_to_approve,
)
from ncen_updater.agent.engine.change_guards import find_last_upgrade
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import DowntimeForecast, record_forecast
from ncen_updater.agent.model.change import Actor, ChangeKind, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import IMPORTED
from ncen_updater.agent.reports.status import read_journal_snapshot
from ncen_updater.agent.service.site_report import build_change_report, build_history_report
from ncen_updater.agent.storage.journal import rows
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.bounded_io import parse_json
from tests.agent.cli.site import AT, CHANGE

#: More than a rollback that is pending is looked for in, which is 30.
FEW, MANY, LIMIT = 34, 120, 5


def ids(count: int) -> list[str]:
    letters = "abcdefghij"
    return ["c" * 4 + "".join(letters[int(digit)] for digit in f"{n:04}") for n in range(count)]


def make(path: Path, count: int) -> None:
    """A site that was upgraded and rolled back repeatedly, and upgraded at last."""
    Journal.create(path).close()
    with Journal.open(path) as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-4201", None)
        before = ""
        for number, name in enumerate(ids(count)):
            forward = number % 2 == 1
            change = replace(
                CHANGE, id=name, kind=ChangeKind.UPGRADE if forward else ChangeKind.ROLLBACK,
                to_version="3.3.0" if forward else "3.2.4", generation=number + 1,
                created_at=AT + timedelta(days=number),
            )  # fmt: skip
            facts = ChangeFacts(downtime_s=60.0 + number)
            journal.begin_change(
                change, facts if forward else replace(facts, undone_upgrade=before)
            )
            record_forecast(journal, change, DowntimeForecast("rrrrrrrr", 1.0, 2.0, float(number)))
            for state in (StepState.INTENDED, StepState.DONE):
                journal.record_step(name, StepName.MAINTENANCE_ON, state)
            journal.commit_change(name)
            journal.set_change_state(name, ChangeState.FINISHED)
            journal.record_event(IMPORTED, files=[f"{number}.nucarry"])
            before = name


@dataclass
class Cost:
    """Statements that a database was given, and values that were read of it."""

    statements: int = 0
    values: int = 0


@contextmanager
def counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Journal, Cost]]:
    cost = Cost()

    def parse(text: str) -> object:
        cost.values += 1
        return parse_json(text)

    def statement(_: str) -> None:
        cost.statements += 1

    monkeypatch.setattr(rows, "parse_json", parse)
    with Journal.open(path, read_only=True) as journal:
        journal._connection.set_trace_callback(statement)
        yield journal, cost


ASKED: dict[str, Callable[[Journal, str], object]] = {
    "history": lambda journal, _: build_history_report(journal, LIMIT),
    "earlier": lambda journal, change: build_history_report(journal, LIMIT, change),
    "the newest": lambda journal, _: build_history_report(journal, 1),
    "status": lambda journal, _: read_journal_snapshot(journal, AT),
    "what is gone back from": lambda journal, _: find_rollback_to_approve(journal, "3.3.0", 2),
}


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    place = tmp_path_factory.mktemp("long")
    for count in (FEW, MANY):
        make(place / f"{count}.sqlite", count)
    return {count: place / f"{count}.sqlite" for count in (FEW, MANY)}


@pytest.mark.parametrize("name", ASKED)
def test_status_cost_is_independent_of_the_history(
    journals: dict[int, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    costs = []
    for count, path in journals.items():
        with counted(path, monkeypatch) as (journal, cost):
            ASKED[name](journal, ids(count)[-2])
            costs.append(cost)
    assert costs[0] == costs[1]
    assert costs[0].statements < 150


def test_facts_of_a_change_are_read_once(
    journals: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def facts(self: Journal, change: str) -> ChangeFacts:
        asked.append(change)
        return whole(self, change)

    whole = Journal.read_facts
    monkeypatch.setattr(Journal, "read_facts", facts)
    with Journal.open(journals[FEW], read_only=True) as journal:
        told = build_history_report(journal, LIMIT)["changes"]
    assert isinstance(told, list) and len(told) > 1
    assert len(asked) == len(set(asked)) == len(told)


def test_each_rollback_costs_one_more_value(
    journals: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for path in journals.values():
        with counted(path, monkeypatch) as (journal, cost):
            found = build_change_report(journal, ids(FEW)[1])
            costs.append(cost)
        assert found["rolled_back_by"] == ids(FEW)[2]
    assert costs[0].statements == costs[1].statements
    assert costs[1].values - costs[0].values == (MANY - FEW) // 2


def record_jobs(path: Path, checks: int) -> None:
    """Record successive jobs; a change starts during that of ``amina``."""
    clock = [AT]
    Journal.create(path).close()
    given = [(JobKind.CHECK, "bo")] * checks + [
        (JobKind.ROLLBACK, "bo"), (JobKind.UPGRADE, "amina"), (JobKind.RESUME, "marie"),
    ]  # fmt: skip
    with Journal.open(path, now=lambda: clock[0]) as journal:
        orders = JobQueue(journal)
        for kind, who in given:
            number = orders.enqueue(kind, {}, Actor(who, 1000))
            orders.mark_started(number)
            clock[0] += timedelta(seconds=0.5)
            if who == "amina":
                journal.begin_change(replace(CHANGE, created_at=clock[0]))
            clock[0] += timedelta(seconds=0.5)
            orders.mark_ended(number, {"exit_code": 0})
            clock[0] += timedelta(seconds=1)
        orders.enqueue(JobKind.UPGRADE, {}, Actor("joao", 1001))


def test_requester_lookup_is_independent_of_the_number_of_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for checks in (1, 20):
        path = tmp_path / f"{checks}.sqlite"
        record_jobs(path, checks)
        with counted(path, monkeypatch) as (journal, cost):
            assert build_change_report(journal, CHANGE.id)["requested_by"] == "amina"
            costs.append(cost)
    assert costs[0] == costs[1]


def test_history_pages_contain_each_change_once(journals: dict[int, Path]) -> None:
    seen: list[str] = []
    with Journal.open(journals[FEW], read_only=True) as journal:
        before = None
        while page := build_history_report(journal, LIMIT, before)["changes"]:
            assert isinstance(page, list)
            for row in page:
                high = row["downtime_s"] - 60.0
                assert row["predicted_downtime_s"] == {"low": 1.0, "likely": 2.0, "high": high}
            seen += [row["id"] for row in page]
            before = seen[-1]
        with pytest.raises(KeyError):
            build_history_report(journal, LIMIT, "zzzzzzzz")
    assert seen == ids(FEW)[::-1]


def test_installing_upgrade_is_found(journals: dict[int, Path]) -> None:
    with Journal.open(journals[FEW], read_only=True) as journal:
        for version in ("3.3.0", "3.2.4", "9.9.9"):
            expected = find_last_upgrade(journal.list_changes(), Version(version))
            assert find_installing_upgrade(journal, version) == expected
