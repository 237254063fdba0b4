"""Schedule of the feed checks of a site: pure.

Every site has its own offset in the interval, computed from its name, so that ten thousand sites
come one after the other without coordination. They must not fall into step: after a long outage of
the feed, or where machines are switched on at eight every morning.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

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
