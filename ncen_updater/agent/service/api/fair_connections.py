"""Who may hold a connection, so that nobody keeps others out, nor a program its own user.

A connection whose request is not here whole waits, and may be made to leave for a newer one: who
drips holds places, but keeps none. Who is past the number of one user takes the place of their own
oldest that waits; once all places are taken, a newcomer takes that of whoever holds most. One that
is answered is never made to leave. Root and the service's own user are not counted. Pure, but for
its lock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


@dataclass(frozen=True)
class Admission(Generic[Connection]):
    """Whether a connection comes in, and which one leaves for it."""

    enters: bool
    leaves: Connection | None = None

    def __bool__(self) -> bool:
        """Whether it comes in."""
        return self.enters


class FairConnections(Generic[Connection]):
    """Knows every open connection that is counted.

    Args:
        each: So many may one user hold.
        all_together: So many may all of them hold; what is left serves those that are not counted.
        free: Numbers of users that are not counted.
    """

    def __init__(self, each: int, all_together: int, free: Collection[int]) -> None:
        self._each, self._all, self._free = each, all_together, frozenset(free)
        #: Oldest first: whose, and whether it is answered.
        self._held: dict[Connection, int] = {}
        self._answered: set[Connection] = set()
        self._lock = threading.Lock()

    def enter(self, uid: int, connection: Connection) -> Admission[Connection]:
        """Let one more in, if there is a place or one can be had."""
        if uid in self._free:
            return Admission(enters=True)
        with self._lock:
            count = Counter(self._held.values())
            leaves = None
            if count[uid] >= self._each:
                leaves = self._waiting({uid})
            elif count.total() >= self._all:
                most = max(count.values())
                fuller = {other for other, held in count.items() if held == most > count[uid]}
                leaves = self._waiting(fuller)
            else:
                self._held[connection] = uid
                return Admission(enters=True)
            if leaves is None:
                return Admission(enters=False)
            del self._held[leaves]
            self._held[connection] = uid
            return Admission(enters=True, leaves=leaves)

    def answering(self, uid: int, connection: Connection) -> bool:
        """Its request is here whole; False if it was made to leave before."""
        if uid in self._free:
            return True
        with self._lock:
            if connection not in self._held:
                return False
            self._answered.add(connection)
            return True

    def waiting(self, connection: Connection) -> None:
        """It was answered, and may ask for more."""
        with self._lock:
            self._answered.discard(connection)

    def leave(self, connection: Connection) -> None:
        """It is closed; nothing happens where it had left before."""
        with self._lock:
            self._held.pop(connection, None)
            self._answered.discard(connection)

    def _waiting(self, uids: Collection[int]) -> Connection | None:
        """Return the oldest of some users that waits."""
        return next(
            (c for c, uid in self._held.items() if uid in uids and c not in self._answered), None
        )
