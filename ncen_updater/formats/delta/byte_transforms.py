"""Reversible transforms that make the differences of a pack compress better.

* Bytes are added and subtracted one by one, modulo 256, in plain Python at hundreds of MB per
  second. A strip is one large integer. The highest bit of every byte is masked, so that no sum
  carries into the next byte, and is corrected afterwards. Most strips of a pack need no addition.
* 32-bit numbers are written in batches, each as four planes: first all lowest bytes, and so on.
  This compressed better than more complex encodings, and is joined without a loop.
* Long runs of zeros are removed from the differences and restored later. Most differences are zero.
  A compressor would remove them too, but slowly. Without them the stream has a tenth of the length.
"""

from __future__ import annotations

import operator
import re
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Final

from ncen_updater.formats.delta.lzma_streams import MalformedPackError

BLOCK_BYTES: Final = 128 << 10
STRIP_BYTES: Final = 16 << 10  # fits into the processor's cache
LOW: Final = int.from_bytes(b"\x7f" * STRIP_BYTES, "little")
HIGH: Final = int.from_bytes(b"\x80" * STRIP_BYTES, "little")
STRIP_ZEROS: Final = bytes(STRIP_BYTES)


def add_bytes(one: bytes, other: bytes) -> bytes:
    """Return the bytewise sums of two blocks of equal length, modulo 256."""
    parts = []
    for at in range(0, len(one), STRIP_BYTES):
        left, right = one[at : at + STRIP_BYTES], other[at : at + STRIP_BYTES]
        if right == STRIP_ZEROS[: len(right)]:
            parts.append(left)
            continue
        x, y = int.from_bytes(left, "little"), int.from_bytes(right, "little")
        total = ((x & LOW) + (y & LOW)) ^ ((x ^ y) & HIGH)
        parts.append(total.to_bytes(len(left), "little"))
    return b"".join(parts)


def subtract_bytes(one: bytes, other: bytes) -> bytes:
    """Return the bytewise differences ``one - other`` of two blocks of equal length."""
    parts = []
    for at in range(0, len(one), STRIP_BYTES):
        left, right = one[at : at + STRIP_BYTES], other[at : at + STRIP_BYTES]
        if left == right:
            parts.append(STRIP_ZEROS[: len(left)])
            continue
        x, y = int.from_bytes(left, "little"), int.from_bytes(right, "little")
        rest = ((x | HIGH) - (y & LOW)) ^ ((x ^ y ^ HIGH) & HIGH)
        parts.append(rest.to_bytes(len(left), "little"))
    return b"".join(parts)


BATCH_NUMBERS = 16384
PLANE_COUNT = 4


def split_planes(numbers: Iterable[int]) -> bytes:
    """Return 32-bit numbers as four planes."""
    values = array("I", numbers)
    if sys.byteorder == "big":
        values.byteswap()
    content = values.tobytes()
    return b"".join(content[plane::PLANE_COUNT] for plane in range(PLANE_COUNT))


def join_planes(content: bytes) -> array[int]:
    """Return the numbers of four planes."""
    count = len(content) // PLANE_COUNT
    mixed = bytearray(len(content))
    for plane in range(PLANE_COUNT):
        mixed[plane::PLANE_COUNT] = content[plane * count : (plane + 1) * count]
    values = array("I", bytes(mixed))
    if sys.byteorder == "big":
        values.byteswap()
    return values


RUN_BYTES = 2 * PLANE_COUNT
LONG_RUN = re.compile(rb"\0{16,}")  # shorter runs cost more when they are encoded separately
ZEROS = bytes(BLOCK_BYTES)


class ZeroRunRemover:
    """Removes runs of zeros block by block, and records their positions."""

    def __init__(self) -> None:
        self._gaps_before, self._zeros = array("I"), array("I")
        self._since = 0  # bytes since the last run

    def __len__(self) -> int:
        return len(self._gaps_before)

    def remove_runs(self, block: bytes) -> bytes:
        """Return a block without its runs of zeros."""
        parts = []
        at = 0
        if self._zeros and not self._since:  # the last run may continue in this block
            at = len(block) - len(block.lstrip(b"\0"))
            self._zeros[-1] += at
        for run in LONG_RUN.finditer(block, at):
            start, end = run.span()
            parts.append(block[at:start])
            self._gaps_before.append(self._since + start - at)
            self._zeros.append(end - start)
            self._since, at = 0, end
        self._since += len(block) - at
        parts.append(block[at:])
        return b"".join(parts)

    def encode_runs(self) -> Iterator[bytes]:
        """Yield the encoded stream of the runs."""
        for at in range(0, len(self._gaps_before), BATCH_NUMBERS):
            yield split_planes(self._gaps_before[at : at + BATCH_NUMBERS])
            yield split_planes(self._zeros[at : at + BATCH_NUMBERS])


def restore_runs(
    count: int,
    read_runs: Callable[[int], bytes],
    read: Callable[[int], bytes],
    length: int,
) -> Iterator[bytes]:
    """Yield the differences with their runs restored, in pieces of at most ``BLOCK_BYTES``.

    Args:
        count: Number of runs.
        read_runs: Returns the next bytes of the stream of runs.
        read: Returns the next bytes of the stream of differences.
        length: Bytes of the differences with their runs.

    Raises:
        MalformedPackError: If a run is empty, or the total length differs, or a stream ends early.
    """
    left = length
    while count:
        batch = min(BATCH_NUMBERS, count)
        count -= batch
        gaps = join_planes(read_runs(PLANE_COUNT * batch))
        zeros = join_planes(read_runs(PLANE_COUNT * batch))
        if 0 in zeros:  # an empty run would allow endless work without progress
            raise MalformedPackError("invalid reference")
        ends = list(accumulate(map(operator.add, gaps, zeros)))
        left -= ends[-1]
        if left < 0:
            raise MalformedPackError("length mismatch")
        at = passed = 0
        while at < batch:
            end = bisect_right(ends, passed + BLOCK_BYTES, at)
            if end > at:
                yield _restore_short_runs(read, gaps[at:end], zeros[at:end])
            else:
                end = at + 1
                yield from read_blocks(read, gaps[at])
                yield from read_blocks(_make_zeros, zeros[at])
            at, passed = end, ends[end - 1]
    yield from read_blocks(read, left)


def _restore_short_runs(read: Callable[[int], bytes], gaps: array[int], zeros: array[int]) -> bytes:
    """Restore many short runs at once, without a loop, as there may be half a million."""
    parts = [b""] * (2 * len(gaps))
    parts[::2] = split_by_lengths(read(sum(gaps)), gaps)
    parts[1::2] = map(bytes, zeros)
    return b"".join(parts)


def _make_zeros(length: int) -> bytes:
    return ZEROS[:length]


def split_by_lengths(content: bytes, lengths: Iterable[int]) -> list[bytes]:
    """Return consecutive pieces of these lengths."""
    return [content[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


def read_blocks(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    """Yield ``length`` bytes in pieces of at most ``BLOCK_BYTES``."""
    while length:
        size = min(BLOCK_BYTES, length)
        length -= size
        yield read(size)


def join_pieces(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Join short pieces to pieces of at least ``size`` bytes; there may be a hundred thousand."""
    parts: list[bytes] = []
    have = 0
    for piece in pieces:
        parts.append(piece)
        have += len(piece)
        if have >= size:
            yield b"".join(parts)
            parts, have = [], 0
    if have:
        yield b"".join(parts)


# A word of at most three characters that is neither a property nor a keyword.
NAME_PATTERN: Final = re.compile(
    rb"(?<![A-Za-z0-9_$.])(?!(?:do|if|in|of|for|get|let|new|set|try|var)(?![A-Za-z0-9_$]))"
    rb"([A-Za-z_$][A-Za-z0-9_$]{0,2})(?![A-Za-z0-9_$])"
)
NAME_BYTES: Final = 3
MAX_NAMES: Final = 1 << 15  # the predictor forgets all names when it reaches this number
CORRECTION_BYTES: Final = 2 * PLANE_COUNT
NO_CORRECTION: Final = 1 << 63


def split_names(text: bytes) -> list[bytes]:
    """Return, in turn, the text before the first name, the name, the text before the second, ..."""
    return NAME_PATTERN.split(text)


class NamePredictor:
    """Predicts that a name is renamed as it was the last time."""

    def __init__(self) -> None:
        self._became: dict[bytes, bytes] = {}
        self.best = self._became.get

    def record_correction(self, name: bytes, became: bytes) -> None:
        """Record the actual new name after a wrong prediction."""
        if len(self._became) >= MAX_NAMES:
            self._became.clear()
        self._became[name] = became


class NameReplacer:
    """Renames the short names in old bytes.

    Args:
        count: Number of corrections.
        read: Returns the next bytes of their stream.
    """

    def __init__(self, count: int, read: Callable[[int], bytes]) -> None:
        self._left, self._read = count, read
        self._predictor = NamePredictor()
        self._gaps, self._names, self._at = array("I"), array("I"), 0
        self._right = b""
        self._until = self._read_next_correction()

    def replace_names(self, text: bytes) -> bytes:
        """Return old bytes with the names of the new file.

        Raises:
            MalformedPackError: If a correction is empty, or the stream ends early.
        """
        parts = split_names(text)
        names, best = parts[1::2], self._predictor.best
        became: list[bytes] = []
        at = 0
        while self._until < len(names) - at:
            stop = at + self._until
            became += map(best, names[at:stop], names[at:stop])
            became.append(self._right)
            self._predictor.record_correction(names[stop], self._right)
            at = stop + 1
            self._until = self._read_next_correction()
        self._until -= len(names) - at
        became += map(best, names[at:], names[at:])
        parts[1::2] = became
        return b"".join(parts)

    def check_exhausted(self) -> None:
        """Check that every correction was used.

        Raises:
            MalformedPackError: If corrections are left.
        """
        if self._left or self._at != len(self._gaps) or self._right:
            raise MalformedPackError("invalid reference")

    def _read_next_correction(self) -> int:
        """Read the next correction; return how many names before it are predicted correctly."""
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
            raise MalformedPackError("invalid reference")
        self._at += 1
        return self._gaps[self._at - 1]
