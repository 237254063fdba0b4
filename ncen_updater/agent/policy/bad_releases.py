"""When a release that failed here is tried again by itself: after delays that grow. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

BAD_RELEASE_DELAYS = (
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=7),
)


def compute_retry_at(times: int, last_at: datetime) -> datetime:
    """Return when the agent may try again by itself.

    Args:
        times: How often the release failed, from 1.
        last_at: When it failed last.
    """
    return last_at + BAD_RELEASE_DELAYS[min(times, len(BAD_RELEASE_DELAYS)) - 1]
