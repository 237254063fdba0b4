"""Search for the bytes of new files in old ones: the one place that knows the match finder.

``hdiffpatch`` is used for its matching only; what it writes is read here and nothing else of it is
kept. Where it is not installed there are no covers, and packs are as good as plain compression.

Two releases of a bundled program are the same but for the names of variables, so the match finder
is given both with one byte in the place of each name; what it finds is brought back to the files.
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
    """Files one after the other, in a scratch file.

    Args:
        path: Where; it must not exist.
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
        """Begin again."""
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


def is_finder_installed() -> bool:
    """Tell whether the match finder is installed."""
    try:
        import hdiffpatch  # noqa: F401
    except ImportError:
        return False
    return True


def find_covers(old: bytes, new: bytes) -> Iterator[Cover]:
    """Yield the covers in the order of the new bytes; they do not overlap there.

    Takes about six times the old bytes of memory.

    Raises:
        DeltaBuildError: If the library answers in a form that is not known.
    """
    if not old or not new:
        return
    import hdiffpatch

    yield from _CoverReader(hdiffpatch.diff(old, new, validate=False)).read_covers()


class _CoverReader:
    """The first part of what the library writes (its format 13, not compressed)."""

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
        for _ in range(6):  # lengths of the other parts, plain and packed
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

        Its first byte holds ``bits - 1`` bits of it, each further byte seven.
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
NAME_SLOT = b"\xff"  # stands nowhere in a text of UTF-8
MIN_COVER_BYTES = 16  # a shorter one costs more than what it covers
PIECE = BLOCK_BYTES // 2  # at most a block of old bytes, as names stand apart
CHANGED = re.compile(rb"[^\0]+")


def is_script(path: str) -> bool:
    """Tell whether a file may have names that were reassigned."""
    return path.endswith(SCRIPTS)


class NameSkeleton:
    """Files one after the other, those of a kind with one byte for each short name.

    Args:
        path: Where it goes; it must not exist.
        whole: The files as they are.
        scripts: Which of them have names.
    """

    def __init__(self, path: Path, whole: Concatenation, scripts: Sequence[bool]) -> None:
        self.whole = whole
        self.bones = Concatenation(path)
        self._slots, self._longer = array("q"), array("q")
        self._edges: list[int] = []  # where files with names begin and end, by turns
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
                self.bones.append_file(_read_range(whole, start, end))
        self._mark(script=False)

    def close(self) -> None:
        """Remove it."""
        self.bones.close()

    @property
    def has_names(self) -> bool:
        """Return whether there is any name in it."""
        return bool(self._slots)

    def map_offset(self, at: int) -> int:
        """Return where in the files a position of the whole is."""
        before = bisect_left(self._slots, at)
        return at + (self._longer[before - 1] if before else 0)

    def has_names_between(self, start: int, end: int) -> bool:
        """Tell whether a name stands in some part."""
        return bisect_left(self._slots, start) != bisect_left(self._slots, end)

    def find_script(self, at: int) -> tuple[bool, int]:
        """Tell whether a file with names stands at a place, and how far what stands there goes."""
        after = bisect_right(self._edges, at)
        end = self._edges[after] if after < len(self._edges) else self.bones.size
        return bool(after % 2), end

    def _mark(self, *, script: bool) -> None:
        if script == (len(self._edges) % 2 == 0):
            self._edges.append(self.bones.size)


class NameCorrections:
    """Where names are not what was foretold."""

    def __init__(self) -> None:
        self._foretelling = NamePredictor()
        self._gaps, self._names = array("I"), array("I")
        self._since = 0

    def __len__(self) -> int:
        return len(self._gaps)

    def add_names(self, old: Sequence[bytes], new: Sequence[bytes]) -> None:
        """Take note of some names and of what became of them."""
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
        """Yield them as their stream has them."""
        for at in range(0, len(self._gaps), BATCH_NUMBERS):
            yield split_planes(self._gaps[at : at + BATCH_NUMBERS])
            yield split_planes(self._names[at : at + BATCH_NUMBERS])


@dataclass(frozen=True, slots=True)
class RenamedCover:
    """A cover brought back to the files.

    Attributes:
        old: Offset in the old files.
        new: Offset in the new ones.
        length: Bytes of the old files.
        made: Bytes of the new ones.
        names: Old names in it, and what became of them; None if it is a cover like any other.
        differences: What is added to the old bytes before that; of such a cover only.
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
    """Bring covers back to the files; what does not come out right is left to the literals."""
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
    """Covers of a piece of files with names, none across a place where only one has a name."""
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
    """Find where two strings of one length differ."""
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
    if before == after:  # nothing to look for in it, where the pack is applied
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


def _read_range(whole: Concatenation, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, BLOCK_BYTES):
        yield whole.read(at, min(BLOCK_BYTES, end - at))
