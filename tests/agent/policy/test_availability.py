"""Tests of whether users can work: every combination of observations, and no guesses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from ncen_updater.agent.policy.availability import (
    Availability,
    AvailabilityState,
    HealthAnswer,
    HealthProbe,
    MaintenanceProbe,
    apply_full_disk,
    judge_availability,
)
from ncen_updater.agent.policy.restart_policy import ProcessState
from ncen_updater.common.i18n import LazyText

SINCE = datetime(2026, 11, 24, 6, tzinfo=UTC)
OPEN, CLOSED = (
    MaintenanceProbe(on=False),
    MaintenanceProbe(on=True, since=SINCE - timedelta(hours=1)),
)
UP, DOWN = ProcessState(True, since=SINCE), ProcessState(False, since=SINCE)
HIDDEN = LazyText("not allowed")


@dataclass(frozen=True)
class Row:
    door: MaintenanceProbe | LazyText
    process: ProcessState | LazyText
    answer: HealthAnswer
    state: AvailabilityState
    since: datetime | None = None
    why: str = ""


TABLE = {
    "all is well": Row(OPEN, UP, HealthAnswer.HEALTHY, AvailabilityState.AVAILABLE, SINCE),
    "well, unit not seen": Row(
        OPEN, HIDDEN, HealthAnswer.HEALTHY, AvailabilityState.AVAILABLE, None, "not allowed"
    ),
    "well, whatever the unit says": Row(
        OPEN, DOWN, HealthAnswer.HEALTHY, AvailabilityState.AVAILABLE
    ),
    "another version": Row(
        OPEN, UP, HealthAnswer.OTHER_VERSION, AvailabilityState.AVAILABLE, SINCE
    ),
    "stopped": Row(OPEN, DOWN, HealthAnswer.NO_ANSWER, AvailabilityState.NOT_RUNNING, SINCE),
    "stopped, address not asked": Row(
        OPEN, DOWN, HealthAnswer.NOT_ASKED, AvailabilityState.NOT_RUNNING, SINCE, "detail"
    ),
    "database down": Row(OPEN, UP, HealthAnswer.HTTP_ERROR, AvailabilityState.UNHEALTHY),
    "no write": Row(
        OPEN, HIDDEN, HealthAnswer.CANNOT_WRITE, AvailabilityState.UNHEALTHY, None, "not allowed"
    ),
    "runs and is silent": Row(OPEN, UP, HealthAnswer.NO_ANSWER, AvailabilityState.UNHEALTHY),
    "silent, unit not seen": Row(
        OPEN, HIDDEN, HealthAnswer.NO_ANSWER, AvailabilityState.UNKNOWN, None, "not allowed; detail"
    ),
    "runs, address not asked": Row(
        OPEN, UP, HealthAnswer.NOT_ASKED, AvailabilityState.UNKNOWN, None, "detail"
    ),
    "closed": Row(CLOSED, UP, HealthAnswer.HEALTHY, AvailabilityState.MAINTENANCE, CLOSED.since),
    "closed and stopped": Row(
        CLOSED, DOWN, HealthAnswer.NO_ANSWER, AvailabilityState.MAINTENANCE, CLOSED.since
    ),
    "maintenance file not visible": Row(
        LazyText("hidden"),
        UP,
        HealthAnswer.HEALTHY,
        AvailabilityState.UNKNOWN,
        None,
        "hidden",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_availability_is_judged(name: str) -> None:
    row = TABLE[name]
    found = judge_availability(row.door, row.process, HealthProbe(row.answer, "detail"))
    assert (found.state, found.since, str(found.unknown_because)) == (row.state, row.since, row.why)
    assert Availability.from_json(found.to_json()) == found


def test_unobserved_state_is_unknown() -> None:
    doors: tuple[MaintenanceProbe | LazyText, ...] = (OPEN, CLOSED, LazyText("hidden"))
    processes: tuple[ProcessState | LazyText, ...] = (UP, DOWN, HIDDEN)
    for door, process, answer in product(doors, processes, HealthAnswer):
        found = judge_availability(door, process, HealthProbe(answer, "x"))
        if not isinstance(door, MaintenanceProbe):
            assert found.state is AvailabilityState.UNKNOWN and "hidden" in str(
                found.unknown_because
            )
        elif door.on:
            assert found.state is AvailabilityState.MAINTENANCE
        elif found.state is AvailabilityState.AVAILABLE:
            assert answer in (HealthAnswer.HEALTHY, HealthAnswer.OTHER_VERSION)
        elif found.state is AvailabilityState.NOT_RUNNING:
            assert isinstance(process, ProcessState) and not process.runs
        if found.state is AvailabilityState.UNKNOWN:
            assert found.unknown_because and found.since is None


STOPPED = ProcessState(False, enabled=True, started_since_boot=True)


@pytest.mark.parametrize(
    ("process", "stopped"),
    [
        (HIDDEN, None),
        (ProcessState(True, enabled=True, started_since_boot=True), None),
        (ProcessState(False, started_since_boot=True), None),
        (ProcessState(False, enabled=False), True),
        (STOPPED, True),
        (ProcessState(False, failed=True, enabled=True, started_since_boot=True), False),
        (ProcessState(False, enabled=True, started_since_boot=False), False),
    ],
)
def test_requested_stop_is_told_where_known(
    process: ProcessState | LazyText, stopped: bool | None
) -> None:
    found = judge_availability(OPEN, process, HealthProbe(HealthAnswer.NO_ANSWER, "detail"))
    assert found.stopped_on_request is stopped


def test_stopped_application_is_unhealthy_while_another_process_answers() -> None:
    found = judge_availability(OPEN, DOWN, HealthProbe(HealthAnswer.HTTP_ERROR, "detail"))
    assert found.state is AvailabilityState.UNHEALTHY


@pytest.mark.parametrize("name", TABLE)
def test_full_disk_makes_an_available_application_unhealthy(name: str) -> None:
    row = TABLE[name]
    before = judge_availability(row.door, row.process, HealthProbe(row.answer, "detail"))
    assert apply_full_disk(before, None) == before
    after = apply_full_disk(before, Path("/var/lib/postgresql"))
    if before.state is AvailabilityState.AVAILABLE:
        assert (after.state, after.answer, after.detail) == (
            AvailabilityState.UNHEALTHY,
            HealthAnswer.DISK_FULL,
            "/var/lib/postgresql",
        )
    else:
        assert after == before
