"""Whether officers can work: every combination of what was seen, and nothing guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from ncen_updater.agent.policy.availability import (
    Availability,
    AvailabilityState,
    HealthAnswer,
    HealthProbe,
    MaintenanceProbe,
    judge_availability,
)
from ncen_updater.agent.policy.ought_to_run import ProcessState

SINCE = datetime(2026, 11, 24, 6, tzinfo=UTC)
OPEN, CLOSED = (
    MaintenanceProbe(closed=False),
    MaintenanceProbe(closed=True, since=SINCE - timedelta(hours=1)),
)
UP, DOWN, HIDDEN = ProcessState(True, since=SINCE), ProcessState(False, since=SINCE), "not allowed"


@dataclass(frozen=True)
class Row:
    door: MaintenanceProbe | str
    process: ProcessState | str
    answer: HealthAnswer
    state: AvailabilityState
    since: datetime | None = None
    why: str = ""


TABLE = {
    "all is well": Row(OPEN, UP, HealthAnswer.WELL, AvailabilityState.WORKS, SINCE),
    "well, unit not seen": Row(
        OPEN, HIDDEN, HealthAnswer.WELL, AvailabilityState.WORKS, None, "not allowed"
    ),
    "well, whatever the unit says": Row(OPEN, DOWN, HealthAnswer.WELL, AvailabilityState.WORKS),
    "another version": Row(OPEN, UP, HealthAnswer.OTHER_VERSION, AvailabilityState.WORKS, SINCE),
    "stopped": Row(OPEN, DOWN, HealthAnswer.NONE, AvailabilityState.NOT_RUNNING, SINCE),
    "stopped, address not asked": Row(
        OPEN, DOWN, HealthAnswer.NOT_ASKED, AvailabilityState.NOT_RUNNING, SINCE, "detail"
    ),
    "database down": Row(OPEN, UP, HealthAnswer.STATUS, AvailabilityState.NOT_WORKING),
    "no write": Row(OPEN, HIDDEN, HealthAnswer.CANNOT_WRITE, AvailabilityState.NOT_WORKING, None,
                    "not allowed"),
    "runs and is silent": Row(OPEN, UP, HealthAnswer.NONE, AvailabilityState.NOT_WORKING),
    "silent, unit not seen": Row(
        OPEN, HIDDEN, HealthAnswer.NONE, AvailabilityState.UNKNOWN, None, "not allowed; detail"
    ),
    "runs, address not asked": Row(
        OPEN, UP, HealthAnswer.NOT_ASKED, AvailabilityState.UNKNOWN, None, "detail"
    ),
    "closed": Row(CLOSED, UP, HealthAnswer.WELL, AvailabilityState.MAINTENANCE, CLOSED.since),
    "closed and stopped": Row(
        CLOSED, DOWN, HealthAnswer.NONE, AvailabilityState.MAINTENANCE, CLOSED.since
    ),
    "door not seen": Row(
        "no rights", UP, HealthAnswer.WELL, AvailabilityState.UNKNOWN, None, "no rights"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_what_officers_meet(name: str) -> None:
    row = TABLE[name]
    found = judge_availability(row.door, row.process, HealthProbe(row.answer, "detail"))
    assert (found.state, found.since, found.why) == (row.state, row.since, row.why)
    assert Availability.from_json(found.to_json()) == found


def test_what_was_not_seen_is_never_said() -> None:
    doors: tuple[MaintenanceProbe | str, ...] = (OPEN, CLOSED, "hidden")
    processes: tuple[ProcessState | str, ...] = (UP, DOWN, HIDDEN)
    for door, process, answer in product(doors, processes, HealthAnswer):
        found = judge_availability(door, process, HealthProbe(answer, "x"))
        if not isinstance(door, MaintenanceProbe):
            assert found.state is AvailabilityState.UNKNOWN and "hidden" in found.why
        elif door.closed:
            assert found.state is AvailabilityState.MAINTENANCE
        elif found.state is AvailabilityState.WORKS:
            assert answer in (HealthAnswer.WELL, HealthAnswer.OTHER_VERSION)
        elif found.state is AvailabilityState.NOT_RUNNING:
            assert isinstance(process, ProcessState) and not process.runs
        if found.state is AvailabilityState.UNKNOWN:
            assert found.why and found.since is None
