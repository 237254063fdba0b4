"""The end of what a program says."""

from __future__ import annotations

import threading
from collections.abc import Callable

BLOCK = 4096


class Tail:
    """Reads what a program says as it comes, so that it never waits for us, and keeps the end.

    Args:
        read: Reads so many bytes at most; none at the end.
        most: So many bytes are kept.
        wait_s: So long the end is waited for, which a process that escaped may hold back.
    """

    def __init__(self, read: Callable[[int], bytes], most: int, wait_s: float) -> None:
        self._ask, self._most, self._wait_s = read, most, wait_s
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="tail", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while block := self._ask(BLOCK):
            self._kept = (self._kept + block)[-self._most :]

    def text(self) -> str:
        """Return what was kept."""
        self._thread.join(self._wait_s)
        return self._kept.decode("utf-8", "replace").strip()
