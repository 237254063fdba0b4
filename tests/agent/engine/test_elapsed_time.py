"""Tests of elapsed time, whatever the wall clock was set to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.engine.elapsed_time import MAX_POWERED_OFF_S, ClockReading, advance_reading

AT = datetime(2026, 11, 1, tzinfo=UTC)
LAST = ClockReading("a", 1000.0, AT, 50.0)
YEARS = 5 * 365 * 86_400.0


@pytest.mark.parametrize(
    ("boot", "monotonic_s", "wall_s", "passed"),
    [
        ("a", 1600.0, 600.0, 600.0),  # as it should be
        ("a", 1600.0, YEARS, 600.0),  # set ahead
        ("a", 1600.0, -YEARS, 600.0),  # set back
        ("b", 60.0, 3600.0, 3600.0),  # off for some minutes
        ("b", 60.0, YEARS, 60.0 + MAX_POWERED_OFF_S),  # started with a clock far ahead
        ("b", 60.0, -YEARS, 60.0),  # started with a clock that forgot
        ("a", 10.0, 20.0, 20.0),  # a boot that says it is the same one
    ],
)
def test_elapsed_time_ignores_wall_clock_changes(
    boot: str, monotonic_s: float, wall_s: float, passed: float
) -> None:
    seen = advance_reading(LAST, boot, monotonic_s, AT + timedelta(seconds=wall_s))
    assert seen.total_s == LAST.total_s + passed


def test_first_reading_counts_nothing() -> None:
    assert advance_reading(None, "a", 99.0, AT).total_s == 0.0
