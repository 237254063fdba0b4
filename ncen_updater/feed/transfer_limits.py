"""Limits of a transfer: lowest and highest speed, and the wait before the next try.

Times are seconds of a monotonic clock, rates bytes a second. The clock, the waiting and chance are
given by the caller; nothing here reads them by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tuf.api.exceptions import SlowRetrievalError

from ncen_updater.feed.resumable_download import ConnectionLostError

#: One read; less where the rate is capped, so that a pause stays short.
BLOCK = 1 << 16
MIN_BLOCK = 1 << 10
MAX_PAUSE_S = 120.0


class TransferTooSlowError(SlowRetrievalError, ConnectionLostError):
    """A server that drips."""


class TransferRateMonitor:
    """Raises when less than the smallest rate came within a window, or the deadline passed.

    Pauses that we made ourselves do not count.
    """

    def __init__(
        self,
        min_bytes_per_s: int,
        window_s: float,
        deadline_s: float,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        self._minimum, self._window, self._name, self._clock = (
            min_bytes_per_s,
            window_s,
            name,
            clock,
        )
        self._begun = self._since = clock()
        self._deadline, self._bytes = deadline_s, 0

    def count_bytes(self, size: int) -> None:
        """Take note of bytes that came.

        Raises:
            TransferTooSlowError: If the server is.
        """
        now = self._clock()
        self._bytes += size
        if now - self._begun > self._deadline:
            raise TransferTooSlowError(f"{self._name}: not finished after {self._deadline:.0f} s")
        if now - self._since >= self._window:
            rate = self._bytes / (now - self._since)
            if rate < self._minimum:
                raise TransferTooSlowError(
                    f"{self._name}: {rate:.0f} bytes/s, at least {self._minimum} needed"
                )
            self._since, self._bytes = now, 0

    def exclude_pause(self, seconds: float) -> None:
        """Take note of a pause of ours."""
        self._begun += seconds
        self._since += seconds


class Throttle:
    """Keeps all connections of a fetcher together below a rate.

    Args:
        rate_limit: The rate at this moment; None for none.
        sleep: Waits.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        rate_limit: Callable[[], int | None],
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._limit, self._sleep, self._clock = rate_limit, sleep, clock
        self._free_at = clock()

    def get_block_size(self) -> int:
        """How many bytes to read at most before the next look."""
        rate = self._limit()
        return BLOCK if rate is None else min(BLOCK, max(MIN_BLOCK, rate // 4))

    def wait_for_rate(self, size: int) -> float:
        """Wait as long as the bytes that came ask for; return the seconds waited."""
        rate, now = self._limit(), self._clock()
        if rate is None:
            self._free_at = now
            return 0.0
        self._free_at = max(now, self._free_at) + size / rate
        pause = self._free_at - now
        self._sleep(pause)
        return pause


def compute_backoff_s(attempt: int, base_s: float, random_fraction: float) -> float:
    """Seconds before another try: doubled each time, and spread so that sites do not come at once.

    Args:
        attempt: 0 after the first failure.
        base_s: The pause after the first failure, in the middle.
        random_fraction: From 0 to 1.
    """
    return float(min(MAX_PAUSE_S, base_s * 2.0 ** min(attempt, 30)) * (0.5 + random_fraction))


def parse_retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a server asks us to wait (``Retry-After``); None if it does not say.

    Args:
        header: The value, seconds or an HTTP date.
        now: The time, with a zone.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
