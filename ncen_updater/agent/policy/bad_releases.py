"""The memory of releases that failed here, with growing delays before the next automatic try."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from packaging.version import Version

DELAYS = (
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=7),
)


@dataclass(frozen=True)
class FailedRelease:
    """A release that failed at this site.

    Attributes:
        version: Which one.
        code: Code of the last failure.
        times: How often it failed, from 1.
        last_at: When it failed last.
    """

    version: Version
    code: str
    times: int
    last_at: datetime

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError("a bad release has failed at least once")


def remember(
    before: FailedRelease | None, version: Version, code: str, failed_at: datetime
) -> FailedRelease:
    """Count one more failure.

    Args:
        before: What is remembered of this release so far.
        version: The release.
        code: Code of the failure.
        failed_at: When it failed.
    """
    times = before.times + 1 if before else 1
    return FailedRelease(version, code, times, failed_at)


def next_attempt(bad: FailedRelease) -> datetime:
    """Return when the agent may try again by itself."""
    return bad.last_at + DELAYS[min(bad.times, len(DELAYS)) - 1]
