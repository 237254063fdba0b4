"""Find bytes of new files in old files; the only module that uses the match finder.

``hdiffpatch`` is used only for matching: the covers are read from its output, the rest is
discarded. If it is not installed, there are no covers, and a pack only compresses.

Two releases of a bundled program often differ only in short variable names. So the match finder
gets both with one byte in place of each name, and its covers are mapped back to the files.
"""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.formats.delta.byte_transforms import (
    BATCH_NUMBERS,
    BLOCK_BYTES,
    NamePredictor,
    split_names,
    split_planes,
    subtract_bytes,
)
from ncen_updater.formats.delta.pack_plan import DeltaBuildError


class Concatenation:
    """Concatenated files, in a temporary file.

    Args:
        path: Path of the temporary file; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("x+b")
        path.unlink()
        self.starts = [0]

    def append_file(self, pieces: Iterator[bytes]) -> None:
        """Append a file."""
        self._stream.writelines(pieces)
        self._stream.flush()
        self.starts.append(self._stream.tell())

    def clear(self) -> None:
        """Remove all content."""
        self._stream.seek(0)
        self._stream.truncate()
        self.starts = [0]

    @property
    def size(self) -> int:
        """Return the total bytes."""
        return self.starts[-1]

    def read(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``; fewer at the end."""
        return os.pread(self._stream.fileno(), length, start)

    def read_range(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end`` in pieces."""
        for at in range(start, end, BLOCK_BYTES):
            yield self.read(at, min(BLOCK_BYTES, end - at))

    def close(self) -> None:
        """Close and so delete the temporary file."""
        self._stream.close()


MAGIC = b"HDIFF13"


@dataclass(frozen=True, slots=True)
class Cover:
    """A range of new bytes that resembles a range of old bytes.

    Attributes:
        old: Offset in the old bytes.
        new: Offset in the new bytes.
        length: Number of bytes.
    """

    old: int
    new: int
    length: int


def is_finder_installed() -> bool:
    """Return whether the match finder is installed."""
    try:
        import hdiffpatch  # noqa: F401
    except ImportError:
        return False
    return True


def find_covers(old: bytes, new: bytes) -> Iterator[Cover]:
    """Yield the covers in the order of the new bytes, without overlaps there.

    Needs about six times the size of the old bytes in memory.

    Raises:
        DeltaBuildError: If the library's output has an unknown format.
    """
    if not old or not new:
        return
    import hdiffpatch

    yield from _CoverReader(hdiffpatch.diff(old, new, validate=False)).read_covers()


class _CoverReader:
    """Reads the covers, the first part of the library's output (format 13, uncompressed)."""

    def __init__(self, content: bytes) -> None:
        if not content.startswith(MAGIC):
            raise DeltaBuildError(detail="unsupported hdiffpatch format")
        self._content, self._at = content, content.index(b"\0") + 1

    def read_covers(self) -> Iterator[Cover]:
        self._read_number()  # length of the new bytes
        self._read_number()  # length of the old bytes
        count = self._read_number()
        size, packed = self._read_number(), self._read_number()
        if packed:
            raise DeltaBuildError(detail="unsupported hdiffpatch format")
        for _ in range(6):  # lengths of the other parts, plain and compressed
            self._read_number()
        end, old, new = self._at + size, 0, 0
        for _ in range(count):
            back = self._content[self._at] & 0x80
            distance = self._read_number(7)
            old += -distance if back else distance
            new += self._read_number()
            length = self._read_number()
            if length:
                yield Cover(old, new, length)
            old += length
            new += length
        if self._at != end:
            raise DeltaBuildError(detail="unsupported hdiffpatch format")

    def _read_number(self, bits: int = 8) -> int:
        """Read a variable-length number, highest bits first.

        Its first byte has ``bits - 1`` bits of it, each further byte seven.
        """
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


SCRIPTS = (".js", ".mjs", ".cjs")
MAX_SCRIPT_BYTES = 32 << 20
NAME_SLOT = b"\xff"  # does not occur in UTF-8 text
MIN_COVER_BYTES = 16  # a shorter cover costs more than it saves
# keeps the old bytes below one block, although names are longer than one byte
PIECE = BLOCK_BYTES // 2
CHANGED = re.compile(rb"[^\0]+")


def is_script(path: str) -> bool:
    """Return whether a file may have renamed short names."""
    return path.endswith(SCRIPTS)


class NameSkeleton:
    """Concatenated files; in scripts, each short name is replaced by one byte.

    Args:
        path: Path of the temporary file; it must not exist.
        whole: The original files.
        scripts: Which of them are scripts.
    """

    def __init__(self, path: Path, whole: Concatenation, scripts: Sequence[bool]) -> None:
        self.whole = whole
        self.bones = Concatenation(path)
        self._slots, self._longer = array("q"), array("q")
        self._edges: list[int] = []  # offsets where scripts begin and end, alternating
        longer = 0
        for number, script in enumerate(scripts):
            start, end = whole.starts[number], whole.starts[number + 1]
            at = self.bones.size
            fits = script and end - start <= MAX_SCRIPT_BYTES
            if fits and NAME_SLOT not in (content := whole.read(start, end - start)):
                parts = split_names(content)
                for text, name in zip(parts[::2], parts[1::2], strict=False):
                    at += len(text)
                    longer += len(name) - 1
                    self._slots.append(at)
                    self._longer.append(longer)
                    at += 1
                self._mark(script=True)
                self.bones.append_file(iter([NAME_SLOT.join(parts[::2])]))
            else:
                self._mark(script=False)
                self.bones.append_file(whole.read_range(start, end))
        self._mark(script=False)

    def close(self) -> None:
        """Delete the temporary file."""
        self.bones.close()

    @property
    def has_names(self) -> bool:
        """Return whether any name was replaced."""
        return bool(self._slots)

    def map_offset(self, at: int) -> int:
        """Return the offset in the original files for an offset in the skeleton."""
        before = bisect_left(self._slots, at)
        return at + (self._longer[before - 1] if before else 0)

    def has_names_between(self, start: int, end: int) -> bool:
        """Return whether a range of the skeleton contains a name."""
        return bisect_left(self._slots, start) != bisect_left(self._slots, end)

    def find_script(self, at: int) -> tuple[bool, int]:
        """Return whether an offset is in a script, and where that script or the other files end."""
        after = bisect_right(self._edges, at)
        end = self._edges[after] if after < len(self._edges) else self.bones.size
        return bool(after % 2), end

    def _mark(self, *, script: bool) -> None:
        if script == (len(self._edges) % 2 == 0):
            self._edges.append(self.bones.size)


class NameCorrections:
    """Names that differ from the prediction."""

    def __init__(self) -> None:
        self._foretelling = NamePredictor()
        self._gaps, self._names = array("I"), array("I")
        self._since = 0

    def __len__(self) -> int:
        return len(self._gaps)

    def add_names(self, old: Sequence[bytes], new: Sequence[bytes]) -> None:
        """Record old names and their new names."""
        best = self._foretelling.best
        for name, became in zip(old, new, strict=True):
            if best(name, name) == became:
                self._since += 1
            else:
                self._gaps.append(self._since)
                self._names.append(int.from_bytes(became, "little"))
                self._foretelling.record_correction(name, became)
                self._since = 0

    def encode_corrections(self) -> Iterator[bytes]:
        """Yield the encoded stream of the corrections."""
        for at in range(0, len(self._gaps), BATCH_NUMBERS):
            yield split_planes(self._gaps[at : at + BATCH_NUMBERS])
            yield split_planes(self._names[at : at + BATCH_NUMBERS])


@dataclass(frozen=True, slots=True)
class RenamedCover:
    """A cover mapped back to the original files.

    Attributes:
        old: Offset in the old files.
        new: Offset in the new files.
        length: Bytes in the old files.
        made: Bytes in the new files.
        names: Its old names and their new names; None for a cover without renaming.
        differences: Added to the old bytes before renaming; only for a cover with renaming.
    """

    old: int
    new: int
    length: int
    made: int
    names: tuple[list[bytes], list[bytes]] | None = None
    differences: bytes = b""


def map_covers(
    covers: Iterator[Cover], reference: NameSkeleton, view: NameSkeleton
) -> Iterator[RenamedCover]:
    """Map covers back to the files; bytes that cannot be mapped become literals."""
    for cover in covers:
        old, new, end = cover.old, cover.new, cover.new + cover.length
        while new < end:
            from_script, old_end = reference.find_script(old)
            to_script, new_end = view.find_script(new)
            length = min(end - new, old_end - old, new_end - new)
            if from_script and to_script:
                yield from _fit_cover(reference, old, view, new, length)
            elif not (
                reference.has_names_between(old, old + length)
                or view.has_names_between(new, new + length)
            ):
                yield RenamedCover(reference.map_offset(old), view.map_offset(new), length, length)
            old += length
            new += length


def _fit_cover(
    reference: NameSkeleton, old: int, view: NameSkeleton, new: int, length: int
) -> Iterator[RenamedCover]:
    """Yield the covers of a range of scripts, split where only one side has a name."""
    for at in range(0, length, PIECE):
        size = min(PIECE, length - at)
        before, after = reference.bones.read(old + at, size), view.bones.read(new + at, size)
        changes = [] if before == after else _find_differences(before, after)
        breaks = [(x, y) for x, y in changes if NAME_SLOT in before[x:y] or NAME_SLOT in after[x:y]]
        for start, end in _find_gaps(breaks, 0, size):
            made = _map_cover(reference, old + at + start, view, new + at + start, end - start)
            if made is not None:
                yield made
                continue
            for first, last in _find_gaps(changes, start, end):
                made = _map_cover(reference, old + at + first, view, new + at + first, last - first)
                if made is not None:
                    yield made


def _find_differences(before: bytes, after: bytes) -> list[tuple[int, int]]:
    """Return the ranges where two strings of equal length differ."""
    return [run.span() for run in CHANGED.finditer(subtract_bytes(after, before))]


def _find_gaps(runs: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the gaps between runs that are long enough for a cover."""
    for first, last in (*runs, (end, end)):
        if start <= first <= end:
            if first - start >= MIN_COVER_BYTES:
                yield start, first
            start = last


def _map_cover(
    reference: NameSkeleton, old: int, view: NameSkeleton, new: int, length: int
) -> RenamedCover | None:
    start, here = reference.map_offset(old), view.map_offset(new)
    before = reference.whole.read(start, reference.map_offset(old + length) - start)
    after = view.whole.read(here, view.map_offset(new + length) - here)
    if before == after:  # no renaming needed when the pack is applied
        return RenamedCover(start, here, len(before), len(after))
    parts, wanted = split_names(before), split_names(after)
    if list(map(len, parts[::2])) != list(map(len, wanted[::2])):
        return None
    names = parts[1::2]
    if parts[::2] == wanted[::2]:
        differences = bytes(len(before))
    else:
        parts[::2] = wanted[::2]
        corrected = b"".join(parts)
        if split_names(corrected) != parts:
            return None
        differences = subtract_bytes(corrected, before)
    return RenamedCover(start, here, len(before), len(after), (names, wanted[1::2]), differences)
