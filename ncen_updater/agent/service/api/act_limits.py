"""How often one user may change something, so that nobody fills journal, disk and mailboxes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

#: So many at once, as people and scripts of theirs do, and one more after each of these times.
AT_ONCE, EVERY_S = 60, 30.0


class ActLimits:
    """Counts what each user changes.

    Each act is a record in the journal for good, and most are told to people.

    Args:
        free: Numbers of users that are not counted: root and the service's own.
        monotonic: The clock.
    """

    def __init__(
        self, free: Collection[int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._free, self._clock = frozenset(free), monotonic
        self._spent: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, uid: int) -> bool:
        """Count one more of a user; False where that is one too many: then it does not count."""
        if uid in self._free:
            return True
        with self._lock:
            now = self._clock()
            left = {
                other: (spent - (now - at) / EVERY_S, now)
                for other, (spent, at) in self._spent.items()
            }
            self._spent = {other: item for other, item in left.items() if item[0] > 0}
            spent, _ = self._spent.get(uid, (0.0, now))
            if spent + 1 > AT_ONCE:
                return False
            self._spent[uid] = (spent + 1, now)
            return True
