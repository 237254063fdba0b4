"""Windows: the hours in which a cut-over may begin, in the wall time of the site. Pure.

Rules for the nights on which clocks change:

* A start or end that is skipped (clocks go forward) means the instant of the change. A window that
  lies whole in the skipped hour does not exist that night.
* One that comes twice (clocks go back) means its first passage, for a start as for an end: a
  cut-over never begins at an instant that some reading of the wall clock calls outside.

Source of zones and of ``fold``: PEP 495, :mod:`zoneinfo`.
"""

from __future__ import annotations

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
