"""Delay after failed logins, until the next password is checked.

An attempt is counted before PAM is asked, and the count is taken back where the password was right:
parallel and interrupted attempts count as well.
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

#: So many are free, and the longest wait; after so long without one everything is forgotten.
FREE_ATTEMPTS, MAX_WAIT_S, RESET_AFTER_S = 4, 60.0, 900.0
#: Names and addresses are the choice of who tries: so many are kept, the latest.
MAX_NAMES = 1000
MAX_FILE_BYTES = 200_000


@dataclass(frozen=True)
class TryLimit:
    """By what tries are counted, and how long they wait.

    Attributes:
        name: Of whom.
        free: So many do not wait.
        longest_s: The longest wait.
    """

    name: str
    free: int = FREE_ATTEMPTS
    longest_s: float = MAX_WAIT_S


#: Of all together: slow enough that no count of a name is pushed out before it is forgotten.
EVERYBODY = TryLimit("", 100, 2.0)


def limits_for(user: str, address: str, *, inside: bool) -> tuple[TryLimit, ...]:
    """Return by what tries of a password are counted; pure.

    Attempts for a name from one address lock nobody out at another one, and nobody outside slows
    down the decisions of people who are logged in.

    Args:
        user: The name, as the system has it.
        address: Where it is typed.
        inside: Whether somebody who is in types it once more.
    """
    if inside:
        return (TryLimit(f"in\n{user}"),)
    if ":" in address:  # one line has as many addresses of IPv6 as it likes
        address = str(ip_network((address, 64), strict=False))
    return TryLimit(f"{user}\n{address}"), EVERYBODY


def compute_wait_s(limit: TryLimit, count: int, last: float, now: float) -> float:
    """Return how long it is until the next try; pure.

    Args:
        limit: By what is counted.
        count: Tries in vain.
        last: When the last of them was.
        now: The time, of the same clock, which is never set.
    """
    if count < limit.free or now - last >= RESET_AFTER_S:
        return 0.0
    return max(0.0, last + min(limit.longest_s, 2.0 ** (count - limit.free + 1)) - now)


class LoginThrottle:
    """Keeps them in a file, for every process that checks a password.

    Args:
        path: Of the file; its directory belongs to this user alone.
        clock: A clock that is never set, of the machine and not of the process.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._path, self._clock = path, clock

    def record_attempt(self, limits: Sequence[TryLimit]) -> float:
        """Count a try, and return 0; or how long to wait, and count nothing.

        Raises:
            OSError: If that cannot be kept; then nobody is let in.
        """
        now, wait, counts = self._clock(), 0.0, dict[str, tuple[int, float]]()
        with self._lock_records() as held:
            for limit in limits:
                count, last = held.get(_hash_name(limit.name), (0, 0.0))
                if now - last >= RESET_AFTER_S or last > now:
                    count = 0
                wait = max(wait, compute_wait_s(limit, count, last, now))
                counts[_hash_name(limit.name)] = count + 1, now
            if wait <= 0:
                for name, counted in counts.items():
                    held.pop(name, None)
                    held[name] = counted
        return wait

    def clear_attempts(self, limits: Sequence[TryLimit]) -> None:
        """Clear the attempts of a person whose password was right.

        Errors as in :meth:`record_attempt`.
        """
        own, *shared = (_hash_name(limit.name) for limit in limits)
        with self._lock_records() as held:
            held.pop(own, None)
            for name in shared:
                count, last = held.get(name, (1, 0.0))
                held[name] = count - 1, last

    @contextlib.contextmanager
    def _lock_records(self) -> Iterator[dict[str, tuple[int, float]]]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._path, flags, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            retained = _parse_records(file.read(MAX_FILE_BYTES + 1))
            yield retained
            newest = dict(list(retained.items())[-MAX_NAMES:])
            content = json.dumps(newest).encode()
            file.seek(0)
            file.write(content)
            file.truncate()


def _parse_records(content: bytes) -> dict[str, tuple[int, float]]:
    """Parse the stored attempts; a damaged file holds none, as after a restart of the machine."""
    try:
        found: Mapping[str, Any] = json.loads(content)
        return {str(name): (int(count), float(last)) for name, (count, last) in list(found.items())}
    except (ValueError, TypeError, AttributeError):
        return {}


def _hash_name(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
