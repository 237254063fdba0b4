"""Tests of the measured downtime."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.engine.change_outcome import measure_downtime
from ncen_updater.agent.model.change import StepName, StepRecord, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from tests.agent.engine.test_runner import CHANGE

START = datetime(2026, 1, 1, tzinfo=UTC)
DONE, UNDONE = StepState.DONE, StepState.UNDONE


def record(name: StepName, state: StepState, begun: float, ended: float | None) -> StepRecord:
    end = None if ended is None else START + timedelta(seconds=ended)
    return StepRecord(name, state, START + timedelta(seconds=begun), end)


@pytest.mark.parametrize(
    ("close", "opened", "measured", "stop"),
    [
        (None, None, None, None),
        ((DONE, 0, 1), None, None, None),
        ((DONE, 0, 1), (DONE, 8, 9), None, 9.0),
        ((UNDONE, 0, 5), None, None, 5.0),
        ((DONE, 0, 1), (DONE, -90, -80), None, None),
        ((UNDONE, 0, -5), None, None, None),
        ((DONE, 0, 1), (DONE, -90, -80), 7.5, 7.5),
    ],
)
def test_downtime_is_measured(
    close: tuple[StepState, float, float] | None,
    opened: tuple[StepState, float, float] | None,
    measured: float | None,
    stop: float | None,
) -> None:
    rows = {StepName.MAINTENANCE_ON: close, StepName.MAINTENANCE_OFF: opened}
    steps = {name: record(name, *row) for name, row in rows.items() if row is not None}
    assert measure_downtime(replace(CHANGE, steps=steps), ChangeFacts(downtime_s=measured)) == stop
