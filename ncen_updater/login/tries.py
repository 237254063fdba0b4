"""Passwords that were tried in vain: how long a name has to wait before the next is looked at.

A try is counted before the system is asked, and taken back where the password was right: many at
once, or one that is cut off, count all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["FORGOTTEN_S", "FREE", "LONGEST_S", "Tries", "wait_s"]

#: So many are free, and the longest wait; after so long without one everything is forgotten.
FREE, LONGEST_S, FORGOTTEN_S = 4, 60.0, 900.0
#: Names are the choice of who tries: so many are kept, the latest.
MOST_NAMES = 1000
MAX_BYTES = 200_000


def wait_s(count: int, last: float, now: float) -> float:
    """Return how long it is until a name may be tried again; pure.

    Args:
        count: Tries in vain.
        last: When the last of them was.
        now: The time, of the same clock, which is never set.
    """
    if count < FREE or now - last >= FORGOTTEN_S:
        return 0.0
    return max(0.0, last + min(LONGEST_S, 2.0 ** (count - FREE + 1)) - now)


class Tries:
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

    def begin(self, user: str) -> float:
        """Count a try, and return 0; or how long to wait, and count nothing.

        Raises:
            OSError: If that cannot be kept; then nobody is let in.
        """
        name, now = _digest(user), self._clock()
        with self._held() as kept:
            count, last = kept.get(name, (0, 0.0))
            if now - last >= FORGOTTEN_S or last > now:
                count = 0
            wait = wait_s(count, last, now)
            if wait <= 0:
                kept.pop(name, None)
                kept[name] = (count + 1, now)
            return wait

    def right(self, user: str) -> None:
        """Forget what a name was tried with: it was right; errors as in :meth:`begin`."""
        with self._held() as kept:
            kept.pop(_digest(user), None)

    @contextlib.contextmanager
    def _held(self) -> Iterator[dict[str, tuple[int, float]]]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._path, flags, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = _read(file.read(MAX_BYTES + 1))
            yield kept
            newest = dict(list(kept.items())[-MOST_NAMES:])
            content = json.dumps(newest).encode()
            file.seek(0)
            file.write(content)
            file.truncate()


def _read(content: bytes) -> dict[str, tuple[int, float]]:
    """What is kept; a file that was torn holds nothing, as after a start of the machine."""
    try:
        found: Mapping[str, Any] = json.loads(content)
        return {str(name): (int(count), float(last)) for name, (count, last) in list(found.items())}
    except (ValueError, TypeError, AttributeError):
        return {}


def _digest(user: str) -> str:
    return hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:32]
