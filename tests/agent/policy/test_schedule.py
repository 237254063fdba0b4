"""Tests of the schedule of feed checks."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.windows import (
    CATCH_UP_SHARE,
    CLOSE_INTERVAL,
    compute_check_due,
    compute_next_check,
)

HOUR = timedelta(hours=1)
NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
PLACE_OF_DAKAR = "2026-12-02T08:41:32.464849+00:00"
SITES = [f"site-{number}" for number in range(2000)]

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(
    now=moments,
    last=st.none() | moments,
    hours=st.floats(0.25, 168),
    site=st.text(min_size=1, max_size=20),
)
def test_next_check_is_never_in_the_past_nor_beyond_one_interval(
    now: datetime, last: datetime | None, hours: float, site: str
) -> None:
    interval = timedelta(hours=hours)
    moment = compute_next_check(now, last, interval, site)
    assert now <= moment <= now + interval
    assert moment == compute_next_check(now, last, interval, site)


@given(site=st.text(min_size=1, max_size=20), hours=st.integers(1, 48))
def test_site_checks_once_per_interval(site: str, hours: int) -> None:
    interval = hours * HOUR
    times = [compute_next_check(NOW, NOW, interval, site)]
    for _ in range(20):
        # It takes a while until the answer is there.
        times.append(compute_next_check(times[-1] + HOUR / 60, times[-1], interval, site))
    steps = {round((b - a) / interval, 6) for a, b in pairwise(times)}
    assert steps == {1.0}


def test_checks_are_spread_over_the_interval() -> None:
    minutes = Counter(
        int((compute_next_check(NOW, NOW, 6 * HOUR, site) - NOW) / (HOUR / 6)) for site in SITES
    )
    assert set(minutes) == set(range(36))
    assert max(minutes.values()) < 2 * len(SITES) / 36


def test_missed_checks_are_spread() -> None:
    long_ago = NOW - timedelta(days=9)
    times = [compute_next_check(NOW, long_ago, 6 * HOUR, site) for site in SITES]
    assert len(set(times)) == len(SITES)
    assert max(times) <= NOW + 6 * HOUR * CATCH_UP_SHARE
    seconds = Counter(int((moment - NOW).total_seconds()) for moment in times)
    assert max(seconds.values()) < 12


def test_clock_set_back_does_not_stop_the_checks() -> None:
    year = timedelta(days=365)
    assert compute_next_check(NOW, NOW + year, 6 * HOUR, "dakar") == compute_next_check(
        NOW, NOW, 6 * HOUR, "dakar"
    )


def test_empty_interval_is_rejected() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        compute_next_check(NOW, None, timedelta(0), "dakar")


def test_check_times_are_stable_across_agent_versions() -> None:
    assert (
        compute_next_check(NOW, NOW, 6 * HOUR, "dakar").isoformat()
        == "2026-12-01T08:40:53.547891+00:00"
    )
    # An interval that does not divide a day counts from one fixed moment.
    week = compute_next_check(NOW, NOW, 100 * HOUR, "dakar")
    assert week.isoformat() == PLACE_OF_DAKAR


DAY = timedelta(days=1)
PLANNED = NOW + 5 * HOUR
DUE = [
    ("nothing is open to the site", PLANNED, NOW, False, 6 * HOUR, PLANNED),
    ("a release is open to it", PLANNED, NOW, True, 6 * HOUR, None),
    ("it asks more often anyway", NOW + HOUR / 2, NOW, True, HOUR / 2, NOW + HOUR / 2),
    ("it asks anyway before that", NOW, NOW, True, 6 * HOUR, NOW),
    ("the last question was in vain", PLANNED, None, True, 6 * HOUR, PLANNED),
    ("the machine was off", PLANNED, NOW - DAY, True, 6 * HOUR, PLANNED),
    ("The upgrade starts immediately.", None, NOW, True, 6 * HOUR, NOW),
    ("planned by a clock that was set back", NOW + 9 * HOUR, NOW, False, 6 * HOUR, NOW),
]


@pytest.mark.parametrize("row", DUE, ids=lambda row: row[0])
def test_checks_are_more_frequent_while_a_release_is_open(
    row: tuple[str, datetime | None, datetime | None, bool, timedelta, datetime | None],
) -> None:
    _, planned, asked, closely, interval, expected = row
    due = compute_check_due(NOW, planned, asked, interval, "dakar", release_pending=closely)
    if expected is None:
        assert NOW <= due <= NOW + CLOSE_INTERVAL
        assert due == compute_check_due(
            due, planned, asked, interval, "dakar", release_pending=closely
        )
    else:
        assert due == expected
