"""Short names that a bundler reassigns: each is foretold as what it became the last time.

Bundlers shorten the names of variables, and reassign them in every release: one letter became
another, ten thousand times. Where a cover says so, each short name in its old bytes is replaced by
what it became when it stood there last. The pack says only where that is wrong, and what is right.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from typing import Final

from ncen_updater.formats.delta.byte_transforms import BATCH_NUMBERS, PLANE_COUNT, join_planes
from ncen_updater.formats.delta.lzma_streams import ReferenceOutOfRangeError

# A word of at most three characters that is no property and none of the language's own.
NAME_PATTERN: Final = re.compile(
    rb"(?<![A-Za-z0-9_$.])(?!(?:do|if|in|of|for|get|let|new|set|try|var)(?![A-Za-z0-9_$]))"
    rb"([A-Za-z_$][A-Za-z0-9_$]{0,2})(?![A-Za-z0-9_$])"
)
NAME_BYTES: Final = 3
MAX_NAMES: Final = 1 << 15  # so many are remembered, then none
CORRECTION_BYTES: Final = 2 * PLANE_COUNT
NO_CORRECTION: Final = 1 << 63


def split_names(text: bytes) -> list[bytes]:
    """Return what stands before the first name, the name, what stands before the second, ..."""
    return NAME_PATTERN.split(text)


class NamePredictor:
    """What each name became the last time."""

    def __init__(self) -> None:
        self._became: dict[bytes, bytes] = {}
        self.best = self._became.get

    def record_correction(self, name: bytes, became: bytes) -> None:
        """Take note that what was foretold of a name was wrong."""
        if len(self._became) >= MAX_NAMES:
            self._became.clear()
        self._became[name] = became


class NameReplacer:
    """Replaces the names in old bytes.

    Args:
        count: How many corrections there are.
        read: Returns the next bytes of their stream.
    """

    def __init__(self, count: int, read: Callable[[int], bytes]) -> None:
        self._left, self._read = count, read
        self._foretelling = NamePredictor()
        self._gaps, self._names, self._at = array("I"), array("I"), 0
        self._right = b""
        self._until = self._read_next_correction()

    def replace_names(self, text: bytes) -> bytes:
        """Return some old bytes with the names that they have in the new file.

        Raises:
            ReferenceOutOfRangeError: If a name is corrected to nothing.
            MalformedColumnError: If the stream ends early.
        """
        parts = split_names(text)
        names, best = parts[1::2], self._foretelling.best
        became: list[bytes] = []
        at = 0
        while self._until < len(names) - at:
            stop = at + self._until
            became += map(best, names[at:stop], names[at:stop])
            became.append(self._right)
            self._foretelling.record_correction(names[stop], self._right)
            at = stop + 1
            self._until = self._read_next_correction()
        self._until -= len(names) - at
        became += map(best, names[at:], names[at:])
        parts[1::2] = became
        return b"".join(parts)

    def check_exhausted(self) -> None:
        """Check that every correction was used.

        Raises:
            ReferenceOutOfRangeError: If there are more than names.
        """
        if self._left or self._at != len(self._gaps) or self._right:
            raise ReferenceOutOfRangeError("invalid name correction")

    def _read_next_correction(self) -> int:
        """Read how many names are as foretold before the next that is not; learns what that is."""
        if self._at == len(self._gaps):
            if not self._left:
                self._right = b""
                return NO_CORRECTION
            batch = min(BATCH_NUMBERS, self._left)
            self._left -= batch
            self._gaps = join_planes(self._read(PLANE_COUNT * batch))
            self._names = join_planes(self._read(PLANE_COUNT * batch))
            self._at = 0
        self._right = self._names[self._at].to_bytes(PLANE_COUNT, "little").rstrip(b"\0")
        if not self._right:
            raise ReferenceOutOfRangeError("invalid name correction")
        self._at += 1
        return self._gaps[self._at - 1]
