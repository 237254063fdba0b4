"""Tests of the rate limit by wall time, also on nights with clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.agent.adapters.feed_reader.feed_factory import compute_rate_limit
from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow

ROME = ZoneInfo("Europe/Rome")
NIGHT = WeeklyWindow(frozenset(Weekday), time(20), time(6))
# Clocks go forward on 2026-03-29 at 02:00, and back on 2026-10-25 at 03:00.
EARLY = WeeklyWindow(frozenset({Weekday.SUN}), time(2, 30), time(4))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "windows", "expected"),
    [
        ("2026-01-14T11:00", (NIGHT,), 5000),
        ("2026-01-14T18:59", (NIGHT,), 5000),  # 19:59 in Rome
        ("2026-01-14T19:00", (NIGHT,), None),  # 20:00
        ("2026-01-15T04:59", (NIGHT,), None),  # 05:59
        ("2026-01-15T05:00", (NIGHT,), 5000),  # 06:00
        ("2026-07-14T17:59", (NIGHT,), 5000),  # summer: 19:59
        ("2026-07-14T18:00", (NIGHT,), None),
        ("2026-07-15T04:00", (NIGHT,), 5000),
        ("2026-03-29T00:59", (EARLY,), 5000),  # 01:59; 02:30 is skipped and means 03:00
        ("2026-03-29T01:00", (EARLY,), None),  # 03:00
        ("2026-03-29T02:00", (EARLY,), 5000),  # 04:00
        ("2026-10-25T00:30", (EARLY,), None),  # 02:30 for the first time
        ("2026-10-25T01:30", (EARLY,), None),  # and for the second
        ("2026-10-25T03:00", (EARLY,), 5000),
        ("2026-01-14T11:00", (), 5000),
    ],
)
def test_rate_limit_applies_outside_the_windows(
    now: str, windows: tuple[WeeklyWindow, ...], expected: int | None
) -> None:
    assert compute_rate_limit(5000, windows, at(now), ROME) == expected


def test_without_a_rate_limit_nothing_is_limited() -> None:
    assert compute_rate_limit(None, (), at("2026-01-14T11:00"), ROME) is None
    assert compute_rate_limit(None, (NIGHT,), at("2026-01-14T11:00"), ROME) is None
