"""How many connections one user may hold, so that nobody keeps the others from the interface.

The same for listeners, each of whom takes a thread for as long as they like.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection


class ConnectionLimits:
    """Counts the open connections of each user.

    Args:
        each: So many may one user hold.
        all_together: So many may all of them hold; what is left serves those that are not counted.
        free: Numbers of users that are not counted: root and the service's own.
    """

    def __init__(self, each: int, all_together: int, free: Collection[int]) -> None:
        self._each, self._all, self._free = each, all_together, frozenset(free)
        self._held: Counter[int] = Counter()
        self._lock = threading.Lock()

    def enter(self, uid: int) -> bool:
        """Count one more of a user; False where that is one too many: then it does not count."""
        if uid in self._free:
            return True
        with self._lock:
            if self._held[uid] >= self._each or self._held.total() >= self._all:
                return False
            self._held[uid] += 1
            return True

    def held_by(self, uid: int) -> int:
        """How many a user has."""
        with self._lock:
            return self._held[uid]

    def leave(self, uid: int) -> None:
        """One that had entered is gone."""
        if uid in self._free:
            return
        with self._lock:
            self._held[uid] -= 1
            if self._held[uid] <= 0:
                del self._held[uid]
