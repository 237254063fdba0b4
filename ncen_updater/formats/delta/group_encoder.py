"""Encode a group for the publisher: find covers and write the streams."""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterator
from typing import IO

from ncen_updater.formats.delta.byte_transforms import (
    BATCH_NUMBERS,
    BLOCK_BYTES,
    CORRECTION_BYTES,
    RUN_BYTES,
    ZeroRunRemover,
    join_pieces,
    split_planes,
    subtract_bytes,
)
from ncen_updater.formats.delta.cover_finder import (
    Concatenation,
    Cover,
    NameCorrections,
    NameSkeleton,
    RenamedCover,
    find_covers,
    is_finder_installed,
    map_covers,
)
from ncen_updater.formats.delta.lzma_streams import Extent, LzmaWriter
from ncen_updater.formats.delta.pack_plan import (
    MAX_SINGLE_FRAME_BYTES,
    GroupStreams,
    MinifiedNames,
)
from ncen_updater.formats.delta.single_frame import compress_frame

# keeps every number of a cover, also a backward jump, within 32 bits
MAX_GROUP_BYTES = (1 << 30) - 1
UNCHANGED_RUN = re.compile(rb"\0{2,}")  # a shorter cover costs more than it saves
SAMPLE_BYTES = 4 << 20
# splitting costs CPU time at the sites, which smaller savings do not justify
MAX_EXACT_RATIO = 0.95


class _CoverColumns:
    """The covers of a group in columns, as there may be many."""

    def __init__(self) -> None:
        self.old, self.new, self.length = array("q"), array("q"), array("q")
        self.made, self.named = array("q"), bytearray()

    def add(self, cover: Cover | RenamedCover) -> None:
        self.old.append(cover.old)
        self.new.append(cover.new)
        self.length.append(cover.length)
        self.made.append(cover.made if isinstance(cover, RenamedCover) else cover.length)
        self.named.append(isinstance(cover, RenamedCover) and cover.names is not None)

    def __len__(self) -> int:
        return len(self.old)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.old, self.new, self.length, strict=True)


def encode_group(
    reference: Concatenation,
    view: Concatenation,
    paired_offsets: list[tuple[int, int]],
    window: int,
    scratch: Concatenation,
    out: IO[bytes],
) -> GroupStreams:
    """Append the streams of a group to a pack.

    Args:
        reference: The reference files.
        view: The new files.
        paired_offsets: Offsets of paired files, ascending: (in the view, in the reference).
        window: Maximum bytes of old and of new files per call of the match finder.
        scratch: An empty temporary file for the differences, until their length is known.
        out: The pack.
    """
    covers, runs = _CoverColumns(), ZeroRunRemover()
    if _is_match_finding_possible(reference, view):
        for cover in _find_covers(reference, view, paired_offsets, window):
            covers.add(cover)
    scratch.append_file(map(runs.remove_runs, _encode_differences(covers, reference, view)))
    if _are_literals_cheaper(covers, reference, view):
        exact = _CoverColumns()
        for cover in _split_covers_at_differences(covers, reference, view):
            exact.add(cover)
        covers, runs = exact, ZeroRunRemover()
        scratch.clear()
        scratch.append_file(map(runs.remove_runs, _encode_differences(covers, reference, view)))
    return _write_streams(covers, runs, scratch, view, None, out)


def encode_group_with_names(
    reference: NameSkeleton,
    view: NameSkeleton,
    paired_offsets: list[tuple[int, int]],
    window: int,
    scratch: Concatenation,
    out: IO[bytes],
) -> GroupStreams | None:
    """Do the same as :func:`encode_group`, with renamed short names.

    Return None if either side has no names, or match finding is not possible.

    Args:
        reference: The reference files, also without their names.
        view: The new files, likewise.
        paired_offsets: As in :func:`encode_group`, in the files without their names.
        window: As in :func:`encode_group`.
        scratch: As in :func:`encode_group`.
        out: As in :func:`encode_group`.
    """
    if not (
        reference.has_names
        and view.has_names
        and _is_match_finding_possible(reference.whole, view.whole)
    ):
        return None
    covers, runs, corrections = _CoverColumns(), ZeroRunRemover(), NameCorrections()
    found = map_covers(
        _find_covers(reference.bones, view.bones, paired_offsets, window), reference, view
    )

    def differences() -> Iterator[bytes]:
        for cover in found:
            covers.add(cover)
            if cover.names is None:
                yield from _encode_difference(cover, reference.whole, view.whole)
            else:
                corrections.add_names(*cover.names)
                yield cover.differences

    # joined, so that runs of zeros across several short pieces are found
    scratch.append_file(map(runs.remove_runs, join_pieces(differences(), BLOCK_BYTES)))
    return _write_streams(covers, runs, scratch, view.whole, corrections, out)


def encode_single_frame(
    reference: Concatenation, view: Concatenation, most: int, out: IO[bytes]
) -> GroupStreams | None:
    """Write a group as one zstd frame.

    Returns:
        None if the files are too large, or if the frame is not smaller than ``most``.
    """
    if not view.size or reference.size + view.size > MAX_SINGLE_FRAME_BYTES:
        return None
    frame = compress_frame(reference.read(0, reference.size), view.read(0, view.size), most)
    if frame is None:
        return None
    at = out.tell()
    out.write(frame)
    empty = Extent(at, 0, 0)
    literals = Extent(at, len(frame), view.size)
    return GroupStreams(0, 0, empty, empty, empty, literals, single_frame=True)


def _split_covers_at_differences(
    covers: _CoverColumns, reference: Concatenation, view: Concatenation
) -> Iterator[Cover]:
    """Yield the covers split wherever a byte differs; differing bytes become literals."""
    for old, new, length in covers:
        for at in range(0, length, BLOCK_BYTES):
            size = min(BLOCK_BYTES, length - at)
            before, after = reference.read(old + at, size), view.read(new + at, size)
            if before == after:
                yield Cover(old + at, new + at, size)
                continue
            for same in UNCHANGED_RUN.finditer(subtract_bytes(after, before)):
                start, end = same.span()
                yield Cover(old + at + start, new + at + start, end - start)


def _are_literals_cheaper(
    covers: _CoverColumns, reference: Concatenation, view: Concatenation
) -> bool:
    """Return whether differing bytes should become literals, estimated from a sample of covers."""
    step = 1 + sum(covers.length) // SAMPLE_BYTES
    runs, lengths, gaps = ZeroRunRemover(), array("I"), array("I")
    differences, literals = zlib.compressobj(6), zlib.compressobj(6)
    sizes = [0, 0]
    for at, (old, new, length) in enumerate(covers):
        if at % step:
            continue
        for start in range(0, min(length, SAMPLE_BYTES), BLOCK_BYTES):
            size = min(BLOCK_BYTES, length - start)
            before, after = reference.read(old + start, size), view.read(new + start, size)
            changes = subtract_bytes(after, before)
            sizes[0] += len(differences.compress(runs.remove_runs(changes)))
            end = 0
            for same in UNCHANGED_RUN.finditer(changes):
                sizes[1] += len(literals.compress(after[end : same.start()]))
                gaps.append(same.start() - end)
                end = same.end()
                lengths.append(end - same.start())
            sizes[1] += len(literals.compress(after[end:]))
    for piece in runs.encode_runs():
        sizes[0] += len(differences.compress(piece))
    for numbers in (gaps, lengths):
        sizes[1] += len(literals.compress(split_planes(numbers)))
    return sizes[1] + len(literals.flush()) < MAX_EXACT_RATIO * (
        sizes[0] + len(differences.flush())
    )


def _is_match_finding_possible(reference: Concatenation, view: Concatenation) -> bool:
    return is_finder_installed() and max(reference.size, view.size) <= MAX_GROUP_BYTES


def _write_streams(
    covers: _CoverColumns,
    runs: ZeroRunRemover,
    scratch: Concatenation,
    view: Concatenation,
    corrections: NameCorrections | None,
    out: IO[bytes],
) -> GroupStreams:
    control = _write_stream(
        out, len(covers) * 12, _encode_control(covers, flags=corrections is not None)
    )
    zeros = _write_stream(out, len(runs) * RUN_BYTES, runs.encode_runs())
    differences = _write_stream(out, scratch.size, scratch.read_range(0, scratch.size))
    literals = _write_stream(
        out, view.size - sum(covers.made), _read_literals(covers, view), literal=True
    )
    renaming = None
    if corrections is not None and covers:
        plain = len(corrections) * CORRECTION_BYTES
        renaming = MinifiedNames(
            sum(covers.length), _write_stream(out, plain, corrections.encode_corrections())
        )
    return GroupStreams(len(covers), len(runs), control, zeros, differences, literals, renaming)


def _find_covers(
    reference: Concatenation, view: Concatenation, likely: list[tuple[int, int]], window: int
) -> Iterator[Cover]:
    """Yield the covers, window by window if the files are larger than the window.

    A window of the new files has half the size of that of the old files, which extends a quarter
    of the window before and after the paired offset.
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


def _write_stream(
    out: IO[bytes], plain: int, pieces: Iterator[bytes], *, literal: bool = False
) -> Extent:
    start = out.tell()
    if plain:
        packer = LzmaWriter(plain, lc=4 if literal else 3)
        for piece in pieces:
            out.write(packer.compress(piece))
        out.write(packer.flush())
    return Extent(start, out.tell() - start, plain)


def _encode_control(covers: _CoverColumns, *, flags: bool) -> Iterator[bytes]:
    """Yield the encoded covers; with ``flags`` the lowest bit of a length marks renaming."""
    here = there = 0
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    for (old, new, length), made, named in zip(covers, covers.made, covers.named, strict=True):
        gap = new - here
        jump = old - there - gap
        columns[0].append(jump << 1 if jump >= 0 else (-jump << 1) - 1)
        columns[1].append(gap)
        columns[2].append(length << 1 | named if flags else length)
        here, there = new + made, old + length
        if len(columns[0]) == BATCH_NUMBERS:
            for column in columns:
                yield split_planes(column)
            columns = ([], [], [])
    if columns[0]:
        for column in columns:
            yield split_planes(column)


def _encode_differences(
    covers: _CoverColumns, reference: Concatenation, view: Concatenation
) -> Iterator[bytes]:
    """Yield the differences to the old bytes; many short covers are processed at once."""
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
                yield subtract_bytes(b"".join(new_parts), b"".join(old_parts))
                new_parts, old_parts, have = [], [], 0
    if have:
        yield subtract_bytes(b"".join(new_parts), b"".join(old_parts))


def _encode_difference(
    cover: RenamedCover, reference: Concatenation, view: Concatenation
) -> Iterator[bytes]:
    for at in range(0, cover.length, BLOCK_BYTES):
        size = min(BLOCK_BYTES, cover.length - at)
        yield subtract_bytes(view.read(cover.new + at, size), reference.read(cover.old + at, size))


def _read_literals(covers: _CoverColumns, view: Concatenation) -> Iterator[bytes]:
    here = 0
    for new, made in zip(covers.new, covers.made, strict=True):
        yield from view.read_range(here, new)
        here = new + made
    yield from view.read_range(here, view.size)
