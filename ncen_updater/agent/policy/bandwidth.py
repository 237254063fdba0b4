"""How much of the line the agent may take, by the wall time of the site."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo

from ncen_updater.agent.policy.windows import Window, opening_at


def limit_at(
    cap: int | None, full_speed: Iterable[Window], now: datetime, zone: tzinfo
) -> int | None:
    """Return the rate that holds at a moment, bytes a second; None for no limit.

    Args:
        cap: The rate outside the windows.
        full_speed: Hours in which the cap does not hold.
        now: The time, with a zone.
        zone: The zone of the site.
    """
    if cap is None or opening_at(full_speed, now, zone) is not None:
        return None
    return cap
