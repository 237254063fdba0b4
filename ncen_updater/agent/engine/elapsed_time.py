"""Elapsed time of a site, counted correctly even if its clock was set meanwhile.

Retained data must not be pruned because a clock jumped ahead. So days are counted by the monotonic
clock, which restarts at each boot. Across a reboot only the wall clock is left, and at most a day
of it counts. A count that is too low only lengthens the retention.

Each operation records a reading of the clocks; the service also does at each check of the feed.
Rare readings lengthen a retention and never shorten it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.model.errors import JournalPermissionError, JournalUnwritableError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads
from ncen_updater.common.json_records import parse_stored_time

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import SystemClock

logger = logging.getLogger(__name__)

#: Maximum that counts for the time between the last reading before a reboot and the reboot.
MAX_POWERED_OFF_S = 86_400.0


@dataclass(frozen=True)
class ClockReading:
    """One reading of the clocks.

    Attributes:
        boot: Boot id of the machine.
        monotonic_s: Seconds since that boot.
        wall: Wall-clock time, UTC.
        total_s: Seconds counted in total until this reading.
    """

    boot: str
    monotonic_s: float
    wall: datetime
    total_s: float = 0.0


def advance_reading(
    last: ClockReading | None, boot: str, monotonic_s: float, wall: datetime
) -> ClockReading:
    """Return the next reading. Pure.

    Args:
        last: The previous reading; None for the first.
        boot: Boot id of the machine.
        monotonic_s: Seconds since that boot.
        wall: Wall-clock time, UTC.
    """
    if last is None:
        return ClockReading(boot, monotonic_s, wall)
    if boot == last.boot and monotonic_s >= last.monotonic_s:
        passed = monotonic_s - last.monotonic_s
    else:
        # After a reboot: at least the time since the boot, plus the wall-clock time before it,
        # limited.
        wall_s = (wall - last.wall).total_seconds()
        passed = min(max(wall_s, monotonic_s), monotonic_s + MAX_POWERED_OFF_S)
    return ClockReading(boot, monotonic_s, wall, last.total_s + max(passed, 0.0))


def record_elapsed_time(journal: Journal, clock: SystemClock) -> None:
    """Record the elapsed time, and the start of retention of each set of previous databases.

    If the journal cannot be written this is only logged: time that is not counted lengthens the
    retention.

    Args:
        journal: The journal, open for writing.
        clock: The clocks of the machine.
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
        logger.warning("elapsed time not written: %s", error)


def try_record_elapsed_time(journal: Path, clock: SystemClock) -> None:
    """Record the elapsed time, or only log that this user may not write the journal."""
    try:
        with Journal.open(journal) as opened:
            record_elapsed_time(opened, clock)
    except (JournalPermissionError, JournalUnwritableError) as error:
        logger.info("elapsed time not recorded: %s", error)


def read_retention_ages(journal: Journal, clock: SystemClock) -> Mapping[str, timedelta]:
    """Return how long each set of previous databases has been retained. Reads only.

    Args:
        journal: The journal.
        clock: The clocks of the machine.
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
