"""Time that has passed at a site, even where its clock was set meanwhile.

Retained data must not be pruned because a clock jumped ahead. So days are counted by the monotonic
clock, which begins again at each boot; over a reboot, where only the wall clock is left, a small
maximum counts. A count that is too low only lengthens the retention.

Each operation reads the clocks and records the time; the service does so at each check of the feed.
Rare readings lengthen a retention and never shorten it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.errors import JournalUnwritableError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads
from ncen_updater.common.json_records import parse_stored_time

#: So much counts for the time between the last look before a restart and the restart.
MAX_POWERED_OFF_S = 86_400.0


@dataclass(frozen=True)
class ClockReading:
    """One look at the clocks.

    Attributes:
        boot: Which start of the machine it was.
        monotonic_s: Seconds since that start.
        wall: The time of day, UTC.
        total_s: Seconds that have been counted up to here.
    """

    boot: str
    monotonic_s: float
    wall: datetime
    total_s: float = 0.0


def advance_reading(
    last: ClockReading | None, boot: str, monotonic_s: float, wall: datetime
) -> ClockReading:
    """Return the next look. Pure.

    Args:
        last: The look before; None at the first.
        boot: Which start of the machine it is.
        monotonic_s: Seconds since that start.
        wall: The time of day, UTC.
    """
    if last is None:
        return ClockReading(boot, monotonic_s, wall)
    if boot == last.boot and monotonic_s >= last.monotonic_s:
        passed = monotonic_s - last.monotonic_s
    else:
        # Since the start at least that long, and before it what the wall clock says, up to a limit.
        reported = (wall - last.wall).total_seconds()
        passed = min(max(reported, monotonic_s), monotonic_s + MAX_POWERED_OFF_S)
    return ClockReading(boot, monotonic_s, wall, last.total_s + max(passed, 0.0))


logger = logging.getLogger(__name__)


def record_elapsed_time(journal: Journal, clock: SystemClock) -> None:
    """Write down how much time has passed, and since when each set of databases is kept.

    A journal that takes no record is nothing to fail for: what was not counted is kept longer.

    Args:
        journal: Open for writing.
        clock: The machine's.
    """
    now = _read_clock(journal, clock)
    try:
        with journal.transaction() as connection:
            connection.execute(
                "INSERT INTO elapsed VALUES (1, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET"
                " boot = excluded.boot, monotonic_s = excluded.monotonic_s, wall = excluded.wall,"
                " total_s = excluded.total_s",
                (now.boot, now.monotonic_s, now.wall.isoformat(), now.total_s),
            )
            connection.execute(
                "INSERT INTO retained_since SELECT change, ? FROM previous_sets"
                " WHERE change NOT IN (SELECT change FROM retained_since)",
                (now.total_s,),
            )
    except JournalUnwritableError as error:
        logger.warning("the time that has passed was not written down: %s", error)


def read_retention_ages(journal: Journal, clock: SystemClock) -> Mapping[str, timedelta]:
    """Return for how long each set of previous databases has been kept. Reads only.

    Args:
        journal: The journal.
        clock: The machine's.
    """
    now = _read_clock(journal, clock).total_s
    with guard_reads(journal.path):
        sets = [row["change"] for row in journal.query("SELECT change FROM previous_sets")]
        rows = journal.query("SELECT change, total_s FROM retained_since")
        since: dict[str, float] = {row["change"]: row["total_s"] for row in rows}
    return {change: timedelta(seconds=max(0.0, now - since.get(change, now))) for change in sets}


def _read_clock(journal: Journal, clock: SystemClock) -> ClockReading:
    last: ClockReading | None = None
    with guard_reads(journal.path):
        for row in journal.query("SELECT boot, monotonic_s, wall, total_s FROM elapsed"):
            wall = parse_stored_time(row["wall"])
            last = ClockReading(row["boot"], row["monotonic_s"], wall, row["total_s"])
    return advance_reading(last, clock.boot_id(), clock.monotonic(), clock.now())
