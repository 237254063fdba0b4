"""Windows, and the schedule of feed checks. Pure.

Windows are the hours in which a cut-over may begin, in the wall time of the site.

Rules for the nights on which clocks change:

* A start or end that is skipped (clocks go forward) means the instant of the change. A window that
  lies whole in the skipped hour does not exist that night.
* One that comes twice (clocks go back) means its first passage, for a start as for an end: a
  cut-over never begins at an instant that some reading of the wall clock calls outside.

Source of zones and of ``fold``: PEP 495, :mod:`zoneinfo`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

SECOND = timedelta(seconds=1)
#: Further than a window of one day a week can be, twice skipped.
HORIZON_DAYS = 30


class Weekday(StrEnum):
    """A day of the week, by the name that the configuration uses."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


DAYS = tuple(Weekday)


@dataclass(frozen=True)
class WeeklyWindow:
    """Hours that come back every week.

    Attributes:
        days: On which days it opens.
        start: When it opens, wall time.
        end: When it closes, wall time; not after ``start`` means on the next day.
    """

    days: frozenset[Weekday]
    start: time
    end: time


@dataclass(frozen=True)
class WindowOpening:
    """One opening of a window, UTC; ``end`` does not belong to it."""

    start: datetime
    end: datetime

    def contains(self, now: datetime) -> bool:
        """Tell whether it is open."""
        return self.start <= now < self.end


def resolve_wall_time(day: date, wall: time, zone: tzinfo) -> datetime:
    """Return the instant (UTC) that a wall time means on a day; see the rules above."""
    local = datetime.combine(day, wall, zone)
    first = local.astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return first
    # Skipped: both readings are valid instants, one on each side of the change.
    before, after = sorted((first, local.replace(fold=1).astimezone(UTC)))
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _list_openings(
    windows: Iterable[WeeklyWindow], first: date, zone: tzinfo
) -> Iterator[WindowOpening]:
    known = tuple(windows)
    for number in range(HORIZON_DAYS):
        day = first + timedelta(days=number)
        for window in known:
            if DAYS[day.weekday()] not in window.days:
                continue
            last = day if window.end > window.start else day + timedelta(days=1)
            start = resolve_wall_time(day, window.start, zone)
            end = resolve_wall_time(last, window.end, zone)
            if start < end:
                yield WindowOpening(start, end)


def find_open_window(
    windows: Iterable[WeeklyWindow], now: datetime, zone: tzinfo
) -> WindowOpening | None:
    """Return the opening that is open now, the one that lasts longest; None outside."""
    yesterday = now.astimezone(zone).date() - timedelta(days=1)
    found = [
        opening for opening in _list_openings(windows, yesterday, zone) if opening.contains(now)
    ]
    return max(found, key=lambda opening: opening.end, default=None)


def find_next_opening(
    windows: Iterable[WeeklyWindow], now: datetime, zone: tzinfo
) -> WindowOpening | None:
    """Return the opening that is open now or else comes next; None if no window ever opens.

    Args:
        windows: The windows of the site.
        now: The time, with a zone.
        zone: The zone of the site.
    """
    known = tuple(windows)
    current = find_open_window(known, now, zone)
    if current is not None:
        return current
    today = now.astimezone(zone).date()
    later = (opening for opening in _list_openings(known, today, zone) if opening.start > now)
    return min(later, key=lambda opening: (opening.start, -opening.end.timestamp()), default=None)


#: Who missed a check asks within this part of the interval, and not all at once.
CATCH_UP_SHARE = 0.05
#: Between two checks while a release is open to the site and not installed: what the Secretariat
#: halts has to reach the sites before they begin.
CLOSE_INTERVAL = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _compute_site_fraction(site: str, purpose: str) -> float:
    """Compute a number from 0 up to 1 that is always the same for one site."""
    digest = hashlib.sha256(f"{purpose}\n{site}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def compute_next_check(
    now: datetime, last: datetime | None, interval: timedelta, site: str
) -> datetime:
    """Return the moment of the next check; ask once after each check and once at the start.

    Args:
        now: The time.
        last: When the feed was asked last, whether it answered or not; None if never. A time after
            ``now`` (the clock was set back) counts as now.
        interval: Time between two checks, above zero.
        site: Id of the site.

    Returns:
        The site's next place after ``last``; where that has passed already, a moment soon after
        ``now``. Never earlier than ``now``, never later than one interval after it.
    """
    if interval <= timedelta(0):
        raise ValueError("the interval between two checks must be positive")
    soon = now + interval * CATCH_UP_SHARE * _compute_site_fraction(site, "catch-up")
    if last is None:
        return soon
    place = interval * _compute_site_fraction(site, "place")
    rounds = (min(last, now) - _EPOCH - place) // interval
    regular = _EPOCH + place + (rounds + 1) * interval
    return regular if regular >= now else soon


def compute_check_due(
    now: datetime,
    planned: datetime | None,
    asked: datetime | None,
    interval: timedelta,
    site: str,
    *,
    release_pending: bool,
) -> datetime:
    """Return when the feed is to be asked, by what was planned when it was asked last.

    Args:
        now: The time.
        planned: As :func:`compute_next_check` said then; None for at once.
        asked: When the feed last answered; None where it did not, or was asked since in vain: that
            is tried again as planned, and no sooner.
        interval: Time between two checks.
        site: Id of the site.
        release_pending: Whether a release is open to the site that it has not installed: its wave
            is open.
    """
    if planned is None or planned - now > interval:  # written by a clock that was set back since
        return now
    missed = (
        asked is None or now - asked > 2 * CLOSE_INTERVAL
    )  # else all that were off ask together
    if not release_pending or asked is None or missed or interval <= CLOSE_INTERVAL:
        return planned
    return min(planned, compute_next_check(asked, asked, CLOSE_INTERVAL, site))
