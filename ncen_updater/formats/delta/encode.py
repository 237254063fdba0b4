"""The publisher's side of a group: covers are found, and the streams are written."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ncen_updater.formats.delta.byte_arithmetic import BLOCK_BYTES, subtract
from ncen_updater.formats.delta.byte_planes import BATCH, split_planes
from ncen_updater.formats.delta.covers import Cover, find_covers, have_finder
from ncen_updater.formats.delta.streams import Extent, Packer
from ncen_updater.formats.delta.zero_runs import RUN_BYTES, Squeezer

__all__ = ["Concatenation", "DeltaStreams", "encode"]

MOST_BYTES = (1 << 30) - 1  # so that every number of a cover, also a jump back, has 32 bits


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


@dataclass(frozen=True)
class DeltaStreams:
    """What was written of a group."""

    covers: int
    runs: int
    control: Extent
    zeros: Extent
    differences: Extent
    literals: Extent


class _Covers:
    """The covers of a group in three columns; there may be many."""

    def __init__(self) -> None:
        self.old, self.new, self.length = array("q"), array("q"), array("q")

    def add(self, cover: Cover) -> None:
        self.old.append(cover.old)
        self.new.append(cover.new)
        self.length.append(cover.length)

    def __len__(self) -> int:
        return len(self.old)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.old, self.new, self.length, strict=True)


def encode(
    reference: Concatenation,
    view: Concatenation,
    likely: list[tuple[int, int]],
    window: int,
    scratch: Concatenation,
    out: IO[bytes],
) -> DeltaStreams:
    """Append the streams of a group to a pack.

    Args:
        reference: The old files.
        view: The new ones.
        likely: Where the pairs are: (offset in the view, offset in the reference), ascending.
        window: The match finder is given so many old and new bytes at once.
        scratch: An empty one, for the differences until their length is known.
        out: The pack.
    """
    covers = _Covers()
    if have_finder() and max(reference.size, view.size) <= MOST_BYTES:
        for cover in _matched(reference, view, likely, window):
            covers.add(cover)
    control = _stream(out, len(covers) * 12, _control(covers))
    runs = Squeezer()
    scratch.add(map(runs.squeeze, _differences(covers, reference, view)))
    zeros = _stream(out, len(runs) * RUN_BYTES, runs.content())
    differences = _stream(out, scratch.size, _range(scratch, 0, scratch.size))
    literals = _stream(out, view.size - sum(covers.length), _literals(covers, view), literal=True)
    return DeltaStreams(len(covers), len(runs), control, zeros, differences, literals)


def _matched(
    reference: Concatenation, view: Concatenation, likely: list[tuple[int, int]], window: int
) -> Iterator[Cover]:
    """Covers of the whole, or of one piece after the other where it does not fit the window.

    A piece of the new files is half as long as that of the old ones, which reaches a quarter of the
    window before and after the place where its pair stands.
    """
    step = window if reference.size <= window else window // 2
    for start in range(0, view.size, step):
        new = view.read(start, step)
        first = 0
        if reference.size > window:
            expected = start
            for here, there in likely:
                if here > start:
                    break
                expected = there + start - here
            first = min(max(0, expected - window // 4), reference.size - window)
        for cover in find_covers(reference.read(first, window), new):
            yield Cover(cover.old + first, cover.new + start, cover.length)


def _stream(
    out: IO[bytes], plain: int, pieces: Iterator[bytes], *, literal: bool = False
) -> Extent:
    start = out.tell()
    if plain:
        packer = Packer(plain, lc=4 if literal else 3)
        for piece in pieces:
            out.write(packer.compress(piece))
        out.write(packer.flush())
    return Extent(start, out.tell() - start, plain)


def _control(covers: _Covers) -> Iterator[bytes]:
    here = there = 0
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    for old, new, length in covers:
        gap = new - here
        jump = old - there - gap
        columns[0].append(jump << 1 if jump >= 0 else (-jump << 1) - 1)
        columns[1].append(gap)
        columns[2].append(length)
        here, there = new + length, old + length
        if len(columns[0]) == BATCH:
            for column in columns:
                yield split_planes(column)
            columns = ([], [], [])
    if columns[0]:
        for column in columns:
            yield split_planes(column)


def _differences(covers: _Covers, reference: Concatenation, view: Concatenation) -> Iterator[bytes]:
    """What must be added to the old bytes; many short covers are dealt with at once."""
    new_parts: list[bytes] = []
    old_parts: list[bytes] = []
    have = 0
    for old, new, length in covers:
        done = 0
        while done < length:
            size = min(BLOCK_BYTES - have, length - done)
            new_parts.append(view.read(new + done, size))
            old_parts.append(reference.read(old + done, size))
            done += size
            have += size
            if have == BLOCK_BYTES:
                yield subtract(b"".join(new_parts), b"".join(old_parts))
                new_parts, old_parts, have = [], [], 0
    if have:
        yield subtract(b"".join(new_parts), b"".join(old_parts))


def _literals(covers: _Covers, view: Concatenation) -> Iterator[bytes]:
    here = 0
    for _, new, length in covers:
        yield from _range(view, here, new)
        here = new + length
    yield from _range(view, here, view.size)


def _range(view: Concatenation, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        piece = view.read(start, min(BLOCK_BYTES, end - start))
        start += len(piece)
        yield piece
