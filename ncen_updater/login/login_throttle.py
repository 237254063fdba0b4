"""Delay between a failed login and the next password check.

An attempt is counted before PAM is asked, so that parallel and interrupted attempts count, too.
After a correct password, the user's count is removed and the others are reduced.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

#: Attempts without a delay, longest delay, and time after which the count is reset.
FREE_ATTEMPTS, MAX_WAIT_S, RESET_AFTER_S = 4, 60.0, 900.0
#: Attackers choose names and addresses freely: only the latest ones are stored.
MAX_NAMES = 1000
MAX_FILE_BYTES = 200_000


@dataclass(frozen=True)
class AttemptLimit:
    """A counter of attempts and its delay.

    Attributes:
        name: Name of the counter.
        free: Attempts without a delay.
        longest_s: The longest delay, in seconds.
    """

    name: str
    free: int = FREE_ATTEMPTS
    longest_s: float = MAX_WAIT_S


#: Counter of all attempts: it limits their rate, so that no counter is evicted before its reset.
ALL_ATTEMPTS = AttemptLimit("", 100, 2.0)


def list_limits(user: str, address: str, *, logged_in: bool) -> tuple[AttemptLimit, ...]:
    """Return the counters of an attempt. Pure.

    Attempts for a name from one address do not lock the user out at another address, and login
    attempts do not delay the confirmations of logged-in users.

    Args:
        user: The account name.
        address: Client address.
        logged_in: Whether a logged-in user enters the password again.
    """
    if logged_in:
        return (AttemptLimit(f"in\n{user}"),)
    if ":" in address:  # one connection may have many IPv6 addresses
        address = str(ip_network((address, 64), strict=False))
    return AttemptLimit(f"{user}\n{address}"), ALL_ATTEMPTS


def compute_wait_s(limit: AttemptLimit, count: int, last: float, now: float) -> float:
    """Return the delay until the next attempt, in seconds. Pure.

    Args:
        limit: The counter.
        count: Failed attempts.
        last: Time of the last one.
        now: The current time on the same monotonic clock.
    """
    if count < limit.free or now - last >= RESET_AFTER_S:
        return 0.0
    doublings = min(count - limit.free + 1, 30)  # 2.0**1024 overflows
    return max(0.0, last + min(limit.longest_s, 2.0**doublings) - now)


class LoginThrottle:
    """Counters in a file, shared by all processes that check a password.

    Args:
        path: The file; its directory belongs to root alone.
        clock: A monotonic clock of the machine, not of the process.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._path, self._clock = path, clock

    def record_attempt(self, limits: Sequence[AttemptLimit]) -> float:
        """Count an attempt and return 0; or return the delay and count nothing.

        Raises:
            OSError: If the count cannot be stored; the login must then be refused.
        """
        now, wait, counts = self._clock(), 0.0, dict[str, tuple[int, float]]()
        with self._lock_records() as records:
            for limit in limits:
                count, last = records.get(_hash_name(limit.name), (0, 0.0))
                if now - last >= RESET_AFTER_S or last > now:
                    count = 0
                wait = max(wait, compute_wait_s(limit, count, last, now))
                counts[_hash_name(limit.name)] = count + 1, now
            if wait <= 0:
                for name, record in counts.items():
                    records.pop(name, None)
                    records[name] = record
        return wait

    def clear_attempts(self, limits: Sequence[AttemptLimit]) -> None:
        """Remove the attempts of a user whose password was correct.

        Errors as in :meth:`record_attempt`.
        """
        own, *shared = (_hash_name(limit.name) for limit in limits)
        with self._lock_records() as records:
            records.pop(own, None)
            for name in shared:
                count, last = records.get(name, (1, 0.0))
                records[name] = count - 1, last

    @contextlib.contextmanager
    def _lock_records(self) -> Iterator[dict[str, tuple[int, float]]]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._path, flags, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            records = _parse_records(file.read(MAX_FILE_BYTES + 1))
            yield records
            newest = dict(list(records.items())[-MAX_NAMES:])
            content = json.dumps(newest).encode()
            file.seek(0)
            file.write(content)
            file.truncate()


def _parse_records(content: bytes) -> dict[str, tuple[int, float]]:
    """Parse the stored counters; return no counters for an empty or damaged file."""
    try:
        found: Mapping[str, Any] = json.loads(content)
        return {str(name): (int(count), float(last)) for name, (count, last) in list(found.items())}
    except (ValueError, TypeError, AttributeError):
        return {}


def _hash_name(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
