"""Time that has passed at a site, even where its clock was set meanwhile. Pure.

Retained data must not be pruned because a clock jumped ahead. So days are counted by the monotonic
clock, which begins again at each boot; over a reboot, where only the wall clock is left, a small
maximum counts. A count that is too low only lengthens the retention.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

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
    """Return the next look.

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
