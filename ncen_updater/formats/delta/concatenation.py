"""Files one after the other, in a scratch file of the publisher's side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class Concatenation:
    """Files one after the other, in a scratch file.

    Args:
        path: Where; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("x+b")
        path.unlink()
        self.starts = [0]

    def add(self, pieces: Iterator[bytes]) -> None:
        """Append a file."""
        self._stream.writelines(pieces)
        self._stream.flush()
        self.starts.append(self._stream.tell())

    def clear(self) -> None:
        """Begin anew."""
        self._stream.seek(0)
        self._stream.truncate()
        self.starts = [0]

    @property
    def size(self) -> int:
        """Bytes altogether."""
        return self.starts[-1]

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes; fewer at the end."""
        return os.pread(self._stream.fileno(), length, start)

    def close(self) -> None:
        """Remove it."""
        self._stream.close()
