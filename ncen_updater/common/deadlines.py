"""Ends of time for connections, all kept by one thread however many there are."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable


class DeadlineTimer:
    """Calls something once its time has come, if nobody takes that back before.

    What is called must not wait. The thread begins with the first deadline.

    Args:
        monotonic: The clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = monotonic
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def schedule(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Have something called after a time; returns what takes that back, at any time."""
        with self._changed:
            number = next(self._numbers)
            self._due[number] = (self._clock() + seconds, callback)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run_due_calls, name="deadlines", daemon=True
                )
                self._thread.start()
            self._changed.notify()

        def cancel() -> None:
            with self._changed:
                self._due.pop(number, None)

        return cancel

    def close(self) -> None:
        """End the thread; nothing is called any more."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._due.clear()
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run_due_calls(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = self._clock()
                over = [number for number, (at, _) in self._due.items() if at <= now]
                calls = [self._due.pop(number)[1] for number in over]
                if not calls:
                    first = min((at for at, _ in self._due.values()), default=None)
                    self._changed.wait(None if first is None else first - now)
            for call in calls:
                call()
