"""Where the bytes of a new file stand in an old one: the one place that knows the match finder.

``hdiffpatch`` is used for its matching only; what it writes is read here and nothing else of it is
kept. Where it is not installed there are no covers, and packs are as good as plain compression.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ncen_updater.formats.delta.errors import DeltaNotMade

MAGIC = b"HDIFF13"


@dataclass(frozen=True, slots=True)
class Cover:
    """Bytes that are alike, though not each the same.

    Attributes:
        old: Offset in the old bytes.
        new: Offset in the new bytes.
        length: How many.
    """

    old: int
    new: int
    length: int


def have_finder() -> bool:
    """Whether the match finder is installed."""
    try:
        import hdiffpatch  # noqa: F401
    except ImportError:
        return False
    return True


def find_covers(old: bytes, new: bytes) -> Iterator[Cover]:
    """Yield the covers in the order of the new bytes; they do not overlap there.

    Takes about six times the old bytes of memory.

    Raises:
        DeltaNotMade: If the library answers in a form that is not known.
    """
    if not old or not new:
        return
    import hdiffpatch

    yield from _Diff(hdiffpatch.diff(old, new, validate=False)).covers()


class _Diff:
    """The first part of what the library writes (its format 13, not compressed)."""

    def __init__(self, content: bytes) -> None:
        if not content.startswith(MAGIC):
            raise DeltaNotMade(detail="hdiffpatch wrote another format")
        self._content, self._at = content, content.index(b"\0") + 1

    def covers(self) -> Iterator[Cover]:
        self._number()  # length of the new bytes
        self._number()  # length of the old bytes
        count = self._number()
        size, packed = self._number(), self._number()
        if packed:
            raise DeltaNotMade(detail="hdiffpatch compressed its covers")
        for _ in range(6):  # lengths of the other parts, plain and packed
            self._number()
        end, old, new = self._at + size, 0, 0
        for _ in range(count):
            back = self._content[self._at] & 0x80
            distance = self._number(7)
            old += -distance if back else distance
            new += self._number()
            length = self._number()
            if length:
                yield Cover(old, new, length)
            old += length
            new += length
        if self._at != end:
            raise DeltaNotMade(detail="hdiffpatch wrote its covers in another form")

    def _number(self, bits: int = 8) -> int:
        """A number whose first byte has some bits of it, each further one seven; highest first."""
        byte = self._content[self._at]
        self._at += 1
        more = 1 << (bits - 1)
        value = byte & (more - 1)
        goes_on = byte & more
        while goes_on:
            byte = self._content[self._at]
            self._at += 1
            value = value << 7 | byte & 0x7F
            goes_on = byte & 0x80
        return value
