"""Decode the streams of a group into its files: corrected covers of old bytes, and literals.

A cover states: after *g* literal bytes, copy *l* bytes from offset *o* of the reference.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Protocol

from ncen_updater.formats.delta.byte_transforms import (
    BATCH_NUMBERS,
    BLOCK_BYTES,
    CORRECTION_BYTES,
    PLANE_COUNT,
    NameReplacer,
    add_bytes,
    join_planes,
    read_blocks,
    restore_runs,
    split_by_lengths,
)
from ncen_updater.formats.delta.lzma_streams import (
    Extent,
    LzmaReader,
    MalformedPackError,
    PieceReader,
)
from ncen_updater.formats.delta.pack_plan import MAX_SINGLE_FRAME_BYTES, FileGroup

EMPTY_EXTENT = Extent(0, 0, 0)


class ReferenceBytes(Protocol):
    """The concatenated reference files of a group."""

    @property
    def size(self) -> int:
        """Return the total bytes."""

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``; the range must be within ``size``."""


class GroupView:
    """The concatenated bytes of a group's files, decoded while they are read.

    Args:
        descriptor: The pack.
        group: The group.
        reference: Its reference files.
    """

    def __init__(self, descriptor: int, group: FileGroup, reference: ReferenceBytes) -> None:
        self._group, self._reference = group, reference
        self._control = LzmaReader(descriptor, group.control)
        self._zeros = LzmaReader(descriptor, group.zeros)
        self._differences = LzmaReader(descriptor, group.differences)
        self._corrections = PieceReader(
            restore_runs(group.runs, self._zeros.read, self._differences.read, group.matched)
        )
        self._literals = LzmaReader(
            descriptor, EMPTY_EXTENT if group.single_frame else group.literals
        )
        self._names: LzmaReader | None = None
        if group.minified_names is not None:
            corrections = group.minified_names.corrections
            self._names = LzmaReader(descriptor, corrections)
            self._renamer = NameReplacer(
                corrections.plain_bytes // CORRECTION_BYTES, self._names.read
            )
        self._blocks = self._decode()
        if group.single_frame:
            # Imported late: few packs need it, and the import would load zstd for every pack.
            from ncen_updater.formats.delta.single_frame import decompress_frame

            if reference.size > MAX_SINGLE_FRAME_BYTES:
                raise MalformedPackError("length mismatch")
            before = reference.read(0, reference.size)
            self._blocks = decompress_frame(descriptor, group.literals, before)
        self._buffer, self._at = b"", 0

    def read_pieces(self, length: int) -> Iterator[bytes]:
        """Yield the next bytes, in pieces.

        Raises:
            MalformedPackError: If the group has fewer bytes.
        """
        while length:
            if self._at == len(self._buffer):
                self._buffer, self._at = next(self._blocks, b""), 0
                if not self._buffer:
                    raise MalformedPackError("length mismatch")
            piece = self._buffer[self._at : self._at + length]
            self._at += len(piece)
            length -= len(piece)
            yield piece

    def read(self, length: int) -> bytes:
        """Return the next bytes as one string; for a few bytes only."""
        return b"".join(self.read_pieces(length))

    def check_exhausted(self) -> None:
        """Check that the files used all bytes of the streams.

        Raises:
            MalformedPackError: If bytes are left.
        """
        if self._at != len(self._buffer) or next(self._blocks, b""):
            raise MalformedPackError("length mismatch")
        self._corrections.check_exhausted()
        for stream in (self._control, self._zeros, self._differences, self._literals):
            stream.check_exhausted()
        if self._names is not None:
            self._renamer.check_exhausted()
            self._names.check_exhausted()

    def _decode(self) -> Iterator[bytes]:
        """Yield the view in blocks of covers with their literals, and then the last literals."""
        left = self._group.view
        for block in self._decode_covers():
            left -= len(block)
            if left < 0:
                raise MalformedPackError("invalid reference")
            yield block
        yield from read_blocks(self._literals.read, left)

    def _decode_covers(self) -> Iterator[bytes]:
        left = self._group.view
        for batch in self._read_cover_batches():
            ends = list(accumulate(map(operator.add, batch.gaps, batch.lengths)))
            # Renaming changes lengths, so the length of renamed covers is checked later.
            left -= sum(batch.gaps) if batch.named else ends[-1]
            if left < 0:
                raise MalformedPackError("invalid reference")
            at = passed = 0
            while at < len(ends):
                end = bisect_right(ends, passed + BLOCK_BYTES, at)
                if end > at:
                    yield self._apply_short_covers(batch, at, end)
                else:
                    end = at + 1
                    yield from read_blocks(self._literals.read, batch.gaps[at])
                    yield from self._apply_long_cover(batch, at)
                at, passed = end, ends[end - 1]

    def _read_cover_batches(self) -> Iterator[_CoverBatch]:
        """Yield batches of covers; each cover is not empty and lies within the reference."""
        there, left = 0, self._group.covers
        while left:
            count = min(BATCH_NUMBERS, left)
            left -= count
            jumps = join_planes(self._control.read(PLANE_COUNT * count))
            gaps = join_planes(self._control.read(PLANE_COUNT * count))
            lengths = join_planes(self._control.read(PLANE_COUNT * count))
            named = b""
            if self._names is not None:
                named = bytes(length & 1 for length in lengths)
                lengths = array("I", [length >> 1 for length in lengths])
                if max(compress(lengths, named), default=0) > BLOCK_BYTES:
                    raise MalformedPackError("invalid reference")
            if 0 in lengths:  # an empty cover would allow endless work without progress
                raise MalformedPackError("invalid reference")
            starts = []
            for jump, gap, length in zip(jumps, gaps, lengths, strict=True):
                there += gap + ((jump >> 1) ^ -(jump & 1))
                starts.append(there)
                there += length
            if min(starts) < 0 or max(map(operator.add, starts, lengths)) > self._reference.size:
                raise MalformedPackError("invalid reference")
            yield _CoverBatch(gaps, starts, lengths, named)

    def _apply_short_covers(self, batch: _CoverBatch, at: int, end: int) -> bytes:
        """Decode many short covers at once, almost without a loop."""
        gaps, lengths = batch.gaps[at:end], batch.lengths[at:end]
        old = b"".join(map(self._reference.read, batch.starts[at:end], lengths))
        pieces = split_by_lengths(add_bytes(old, self._corrections.read(len(old))), lengths)
        if any(batch.named[at:end]):
            named = zip(pieces, batch.named[at:end], strict=True)
            pieces = [
                self._renamer.replace_names(piece) if name else piece for piece, name in named
            ]
        parts = [b""] * (2 * len(gaps))
        parts[::2] = split_by_lengths(self._literals.read(sum(gaps)), gaps)
        parts[1::2] = pieces
        return b"".join(parts)

    def _apply_long_cover(self, batch: _CoverBatch, index: int) -> Iterator[bytes]:
        """Yield the pieces of a cover that is longer than a block."""
        start, length = batch.starts[index], batch.lengths[index]
        named = any(batch.named[index : index + 1])
        for at in range(start, start + length, BLOCK_BYTES):
            old = self._reference.read(at, min(BLOCK_BYTES, start + length - at))
            piece = add_bytes(old, self._corrections.read(len(old)))
            yield self._renamer.replace_names(piece) if named else piece


@dataclass(frozen=True, slots=True)
class _CoverBatch:
    """A batch of covers, in columns.

    Attributes:
        gaps: Number of literal bytes before each cover.
        starts: Offset of each cover in the reference.
        lengths: Bytes of each cover.
        named: Whether names in the cover are renamed; empty if the group renames none.
    """

    gaps: array[int]
    starts: list[int]
    lengths: array[int]
    named: bytes
