"""Many small pieces of a file, read in their order with few calls."""

from __future__ import annotations

import os
from collections.abc import Callable

PIECE = 128 << 10


class Ahead:
    """Reads a larger piece at a time and cuts from it.

    Args:
        descriptor: Returns a descriptor of the file; it is asked each time, as it may change.
    """

    def __init__(self, descriptor: Callable[[], int]) -> None:
        self._descriptor = descriptor
        self._start, self._content = 0, b""

    def read(self, at: int, length: int) -> bytes:
        """Return some of the bytes from an offset on; none only where the file ends."""
        skip = at - self._start
        if not 0 <= skip < len(self._content):
            self._start, skip = at, 0
            self._content = os.pread(self._descriptor(), PIECE, at)
        return self._content[skip : skip + length]

    def whole(self, at: int, length: int) -> bytes:
        """Return these bytes, a few; fewer where the file ends before."""
        piece = self.read(at, length)
        return piece if len(piece) == length else os.pread(self._descriptor(), length, at)
