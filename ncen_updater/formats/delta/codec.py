"""Turning streams into the files of a group: covers of old bytes, corrected, between literals.

A cover says: go on in the reference at *o*, after *g* literal bytes, for *l* bytes.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Protocol

from ncen_updater.formats.delta.byte_arithmetic import BLOCK_BYTES, add
from ncen_updater.formats.delta.byte_planes import BATCH, PLANES, join_planes
from ncen_updater.formats.delta.index_columns import OutOfRange
from ncen_updater.formats.delta.layout import Group
from ncen_updater.formats.delta.streams import LzmaReader
from ncen_updater.formats.delta.zero_runs import cut, expanded, in_blocks

__all__ = ["Reference", "View"]


class Reference(Protocol):
    """All old files of a group as one long string of bytes."""

    @property
    def size(self) -> int:
        """Bytes altogether."""

    def read(self, start: int, length: int) -> bytes:
        """Return exactly these bytes, which are within ``size``."""


class View:
    """The bytes of a group's files one after the other, made as they are read.

    Args:
        descriptor: The pack.
        group: The group.
        reference: Its old files.
    """

    def __init__(self, descriptor: int, group: Group, reference: Reference) -> None:
        self._group, self._reference = group, reference
        self._control = LzmaReader(descriptor, group.control)
        self._zeros = LzmaReader(descriptor, group.zeros)
        self._differences = LzmaReader(descriptor, group.differences)
        self._corrections = _Pieces(
            expanded(group.runs, self._zeros.read, self._differences.read, group.covered)
        )
        self._literals = LzmaReader(descriptor, group.literals)
        self._blocks = self._make()
        self._buffer, self._at = b"", 0

    def pieces(self, length: int) -> Iterator[bytes]:
        """Yield the next bytes, in pieces.

        Raises:
            OutOfRange: If the group does not have them.
        """
        while length:
            if self._at == len(self._buffer):
                self._buffer, self._at = next(self._blocks, b""), 0
                if not self._buffer:
                    raise OutOfRange("a group is shorter than its files")
            piece = self._buffer[self._at : self._at + length]
            self._at += len(piece)
            length -= len(piece)
            yield piece

    def read(self, length: int) -> bytes:
        """Return the next bytes at once; for a few only."""
        return b"".join(self.pieces(length))

    def end(self) -> None:
        """Check that everything was used.

        Raises:
            OutOfRange: If a stream has more than the files of the group.
        """
        if self._at != len(self._buffer) or next(self._blocks, b""):
            raise OutOfRange("a group is longer than its files")
        for stream in (self._control, self._zeros, self._differences, self._literals):
            stream.end()

    def _make(self) -> Iterator[bytes]:
        """Blocks of the view, each of as many covers as fit into it."""
        left = self._group.view
        for gaps, starts, lengths in self._covers():
            ends = list(accumulate(map(operator.add, gaps, lengths)))
            left -= ends[-1]
            if left < 0:
                raise OutOfRange("covers are outside the new files")
            at = passed = 0
            while at < len(ends):
                end = bisect_right(ends, passed + BLOCK_BYTES, at)
                if end > at:
                    yield self._together(gaps[at:end], starts[at:end], lengths[at:end])
                else:
                    end = at + 1
                    yield from in_blocks(self._literals.read, gaps[at])
                    yield from self._long(starts[at], lengths[at])
                at, passed = end, ends[end - 1]
        yield from in_blocks(self._literals.read, left)

    def _covers(self) -> Iterator[tuple[array[int], list[int], array[int]]]:
        """Batches of covers: bytes of literals before each, where it is in the reference, length.

        Each is in the reference and has bytes.
        """
        there, left = 0, self._group.covers
        while left:
            count = min(BATCH, left)
            left -= count
            jumps = join_planes(self._control.read(PLANES * count))
            gaps = join_planes(self._control.read(PLANES * count))
            lengths = join_planes(self._control.read(PLANES * count))
            if 0 in lengths:  # so that each takes us further, however many there are
                raise OutOfRange("a cover of no bytes")
            starts = []
            for jump, gap, length in zip(jumps, gaps, lengths, strict=True):
                there += gap + ((jump >> 1) ^ -(jump & 1))
                starts.append(there)
                there += length
            if min(starts) < 0 or max(map(operator.add, starts, lengths)) > self._reference.size:
                raise OutOfRange("a cover is outside the old files")
            yield gaps, starts, lengths

    def _together(self, gaps: array[int], starts: list[int], lengths: array[int]) -> bytes:
        """Many short covers at once, almost without a loop."""
        old = b"".join(map(self._reference.read, starts, lengths))
        parts = [b""] * (2 * len(starts))
        parts[::2] = cut(self._literals.read(sum(gaps)), gaps)
        parts[1::2] = cut(add(old, self._corrections.read(len(old))), lengths)
        return b"".join(parts)

    def _long(self, start: int, length: int) -> Iterator[bytes]:
        """A cover that is longer than a block."""
        for at in range(start, start + length, BLOCK_BYTES):
            old = self._reference.read(at, min(BLOCK_BYTES, start + length - at))
            yield add(old, self._corrections.read(len(old)))


class _Pieces:
    """Reads pieces of any length as one string of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._buffer, self._at = pieces, b"", 0

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            OutOfRange: If there are fewer.
        """
        end = self._at + size
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < size:
            self._buffer = next(self._pieces, b"")
            if not self._buffer:
                raise OutOfRange("covers are longer than what is said of them")
            parts.append(self._buffer)
            have += len(self._buffer)
        self._at = len(self._buffer) - (have - size)
        parts[-1] = self._buffer[: self._at]
        return b"".join(parts)
