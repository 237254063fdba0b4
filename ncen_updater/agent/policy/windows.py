"""Maintenance and download windows, and the schedule of feed checks. Pure.

Windows are weekly hours in the site's local time. Rules for changes of the clock:

* A start or end in the skipped hour (clock set forward) means the instant of the change. A window
  entirely in the skipped hour does not open that night.
* A start or end in the repeated hour (clock set back) means its first occurrence. So downtime never
  starts at a time that one reading of the clock puts outside the window.

Source for time zones and ``fold``: PEP 495, :mod:`zoneinfo`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

SECOND = timedelta(seconds=1)
#: Days to search: more than two weekly windows that do not open because of clock changes.
HORIZON_DAYS = 30
#: Missed checks are made up within this share of the interval, not by all sites at once.
CATCH_UP_SHARE = 0.05
#: Interval of checks while a release is open to the site and not installed: a halt must reach the
#: sites before they start the upgrade.
CLOSE_INTERVAL = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Weekday(StrEnum):
    """A day of the week, named as in the configuration."""

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
    """Hours that recur every week.

    Attributes:
        days: Days on which it opens.
        start: Opening time, local.
        end: Closing time, local; on the next day if not after ``start``.
    """

    days: frozenset[Weekday]
    start: time
    end: time


@dataclass(frozen=True)
class WindowOpening:
    """One opening of a window, in UTC; ``end`` is exclusive."""

    start: datetime
    end: datetime

    def contains(self, now: datetime) -> bool:
        """Return whether it is open at a time."""
        return self.start <= now < self.end


def resolve_wall_time(day: date, wall: time, zone: tzinfo) -> datetime:
    """Return the instant (UTC) of a local time on a day, by the rules above."""
    local = datetime.combine(day, wall, zone)
    first = local.astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return first
    # In the skipped hour: both readings are valid instants, one on each side of the change.
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
    repeatable = tuple(windows)
    for offset in range(HORIZON_DAYS):
        day = first + timedelta(days=offset)
        for window in repeatable:
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
    """Return the current opening with the latest end; None if no window is open."""
    yesterday = now.astimezone(zone).date() - timedelta(days=1)
    openings = [
        opening for opening in _list_openings(windows, yesterday, zone) if opening.contains(now)
    ]
    return max(openings, key=lambda opening: opening.end, default=None)


def find_next_opening(
    windows: Iterable[WeeklyWindow], now: datetime, zone: tzinfo
) -> WindowOpening | None:
    """Return the current or next opening; None if no window ever opens.

    Args:
        windows: The windows of the site.
        now: The time, with a zone.
        zone: Time zone of the site.
    """
    known = tuple(windows)
    current = find_open_window(known, now, zone)
    if current is not None:
        return current
    today = now.astimezone(zone).date()
    later = (opening for opening in _list_openings(known, today, zone) if opening.start > now)
    return min(later, key=lambda opening: (opening.start, -opening.end.timestamp()), default=None)


def _compute_site_fraction(site: str, purpose: str) -> float:
    """Return a number from 0 to below 1 that is constant for a site."""
    digest = hashlib.sha256(f"{purpose}\n{site}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def compute_next_check(
    now: datetime, last: datetime | None, interval: timedelta, site: str
) -> datetime:
    """Return the time of the next check; call it after each check and once at the start.

    Args:
        now: The time.
        last: When the feed was last checked, successfully or not; None if never. A time after
            ``now`` (the clock was set back) counts as ``now``.
        interval: Time between two checks, above zero.
        site: Id of the site.

    Returns:
        The site's next regular time after ``last``; if that has passed, a time soon after ``now``.
        Never before ``now``, and never more than one interval after it.
    """
    if interval <= timedelta(0):
        raise ValueError("the interval between two checks must be positive")
    soon = now + interval * CATCH_UP_SHARE * _compute_site_fraction(site, "catch-up")
    if last is None:
        return soon
    offset = interval * _compute_site_fraction(site, "place")
    intervals = (min(last, now) - _EPOCH - offset) // interval
    regular = _EPOCH + offset + (intervals + 1) * interval
    return regular if regular >= now else soon


def compute_check_due(
    now: datetime,
    planned: datetime | None,
    answered_at: datetime | None,
    interval: timedelta,
    site: str,
    *,
    release_pending: bool,
) -> datetime:
    """Return when the next feed check is due, from the plan made at the last check.

    Args:
        now: The time.
        planned: The result of :func:`compute_next_check` at the last check; None for at once.
        answered_at: When the feed last answered; None if the last check failed: it is retried as
            planned, not sooner.
        interval: Time between two checks.
        site: Id of the site.
        release_pending: Whether a release is open to the site and not installed.
    """
    if planned is None or planned - now > interval:  # written before the clock was set back
        return now
    # Otherwise all sites that were off would check at once.
    missed = answered_at is None or now - answered_at > 2 * CLOSE_INTERVAL
    if not release_pending or answered_at is None or missed or interval <= CLOSE_INTERVAL:
        return planned
    return min(planned, compute_next_check(answered_at, answered_at, CLOSE_INTERVAL, site))
