"""Turning streams into the files of a group: covers of old bytes, corrected, between literals.

A cover says: go on in the reference at *o*, after *g* literal bytes, for *l* bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ncen_updater.transfer.delta.arithmetic import BLOCK_BYTES, add
from ncen_updater.transfer.delta.layout import Group
from ncen_updater.transfer.delta.numbers import OutOfRange
from ncen_updater.transfer.delta.planes import BATCH, PLANES, join_planes
from ncen_updater.transfer.delta.runs import expanded
from ncen_updater.transfer.delta.streams import LzmaReader

__all__ = ["Reference", "View"]

ZEROS = bytes(BLOCK_BYTES)


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
        """Blocks of the view: the parts are gathered, and corrected all at once."""
        parts: list[bytes] = []
        corrections: list[bytes] = []
        have = 0
        for covered, start, length in self._runs():
            done = 0
            while done < length:
                size = min(length - done, BLOCK_BYTES - have)
                if covered:
                    parts.append(self._reference.read(start + done, size))
                    corrections.append(self._corrections.read(size))
                else:
                    parts.append(self._literals.read(size))
                    corrections.append(ZEROS[:size])
                done += size
                have += size
                if have == BLOCK_BYTES:
                    yield _corrected(parts, corrections)
                    parts, corrections, have = [], [], 0
        if have:
            yield _corrected(parts, corrections)

    def _runs(self) -> Iterator[tuple[bool, int, int]]:
        """What the view consists of: (from the reference, where there, how long)."""
        here = there = 0
        left = self._group.covers
        while left:
            count = min(BATCH, left)
            left -= count
            jumps = join_planes(self._control.read(PLANES * count))
            gaps = join_planes(self._control.read(PLANES * count))
            lengths = join_planes(self._control.read(PLANES * count))
            if 0 in lengths:  # so that each takes us further, however many there are
                raise OutOfRange("a cover of no bytes")
            for jump, gap, length in zip(jumps, gaps, lengths, strict=True):
                there += gap + ((jump >> 1) ^ -(jump & 1))
                here += gap + length
                if not 0 <= there <= there + length <= self._reference.size:
                    raise OutOfRange("a cover is outside the old files")
                if here > self._group.view:
                    raise OutOfRange("covers are outside the new files")
                yield False, 0, gap
                yield True, there, length
                there += length
        yield False, 0, self._group.view - here


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


def _corrected(parts: list[bytes], corrections: list[bytes]) -> bytes:
    block, correction = b"".join(parts), b"".join(corrections)
    return block if correction == ZEROS[: len(block)] else add(block, correction)
