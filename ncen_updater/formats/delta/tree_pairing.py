"""The publisher's view of two trees: what stays, what moved, what was renamed, what is new.

Renames are the rule, not the exception: a hash in the name of an asset, a version in that of a
library or of its directory. So paths are compared with hashes, versions and numbers left out. Of
archives it says which members changed, proved to be made again exactly.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ncen_updater.common.messages import DELTA_NOT_POSSIBLE
from ncen_updater.formats.delta.lzma_streams import ReadAheadFile
from ncen_updater.formats.delta.pack_plan import (
    ArchiveOperation,
    ArchiveOperationKind,
    DeltaBuildError,
    NewEntry,
    PackPlan,
    PathChecker,
    PathRefusedError,
    check_link,
    make_deflater,
)
from ncen_updater.formats.delta.zip_archive import (
    DEFLATED,
    NotAnArchiveError,
    ZipMember,
    ZipTable,
    inflate_member,
)
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

MIN_COPY_BYTES = 4096  # a smaller one costs next to nothing, where it is packed beside the first
# A run of hexadecimal digits with at least one figure, of six or more; or a run of figures.
VERSION_LIKE_PART = re.compile(r"(?=[0-9a-f]*[0-9])[0-9a-f]{6,}|[0-9]+(?:[._-]?[0-9]+)*")


def strip_varying_parts(path: str) -> str:
    """Return a path without the parts that change from release to release."""
    return VERSION_LIKE_PART.sub("#", path.lower())


def pair_trees(old: Tree, new: Tree) -> PackPlan:
    """Say where each entry of the new tree comes from; the plan has no groups yet.

    Raises:
        DELTA_NOT_POSSIBLE: If the new tree has a path that no pack may name.
    """
    _check_paths(new)
    pairs = _TreePairing(old, new)
    plan = PackPlan()
    first: dict[str, int] = {}
    for at, entry in enumerate(new.entries):
        made = pairs.pair_entry(entry)
        if isinstance(made, NewEntry) and made.is_built and made.size >= MIN_COPY_BYTES:
            copy_of = first.setdefault(entry.sha256 or "", at)
            if copy_of != at:
                made = replace(made, copy_of=copy_of, similar_to=None)
        plan.entries.append(made)
    return plan


def _check_paths(new: Tree) -> None:
    rules = PathChecker()
    try:
        for entry in new.entries:
            rules.check_path(entry.path, is_directory=entry.type is EntryType.DIRECTORY)
            if entry.target is not None:
                check_link(entry.path, entry.target)
    except PathRefusedError as error:
        raise DeltaBuildError(DELTA_NOT_POSSIBLE, detail=str(error)) from error


class _TreePairing:
    def __init__(self, old: Tree, new: Tree) -> None:
        self._old = old.entries
        self._at = {entry.path: index for index, entry in enumerate(old.entries)}
        self._by_digest: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        stays = {entry.path for entry in new.entries if entry.type is EntryType.FILE}
        for index, entry in enumerate(old.entries):
            if entry.sha256 is not None:
                self._by_digest[entry.sha256].append(index)
                if entry.path not in stays:
                    self._by_stem[strip_varying_parts(entry.path)].append(index)

    def pair_entry(self, entry: TreeEntry) -> int | NewEntry:
        """Where one entry comes from."""
        index = self._at.get(entry.path)
        if index is not None and self._old[index] == entry:
            return index
        fresh = NewEntry(entry.path, entry.type, entry.mode, entry.size, target=entry.target)
        if entry.sha256 is None:
            return fresh
        alike = self._by_digest.get(entry.sha256)
        if alike:
            best = min(alike, key=lambda i: self._make_distance_key(i, entry.path))
            return _set_origin(fresh, origin=best)
        if index is not None and self._old[index].type is EntryType.FILE:
            return _set_origin(fresh, like=index)
        renamed = self._by_stem.get(strip_varying_parts(entry.path))
        if renamed:
            best = min(renamed, key=lambda i: (abs(self._old[i].size - entry.size), i))
            return _set_origin(fresh, like=best)
        return fresh

    def _make_distance_key(self, index: int, path: str) -> tuple[bool, bool, bool, int]:
        """Of files with one content: the same path, else one with the same stem or name."""
        other = self._old[index].path
        return (
            other != path,
            strip_varying_parts(other) != strip_varying_parts(path),
            other.rpartition("/")[2] != path.rpartition("/")[2],
            index,
        )


def _set_origin(fresh: NewEntry, origin: int | None = None, like: int | None = None) -> NewEntry:
    return NewEntry(
        fresh.path, fresh.type, fresh.mode, fresh.size, origin=origin, target=None, similar_to=like
    )


MAX_TRIED_MEMBERS = 4  # old members of the same length and check sum
DEFLATE_LEVELS = (6, 9, 1)  # what makers of archives use, the usual one first
PIECE = 256 << 10


@dataclass(frozen=True)
class ArchivePlan:
    """How an archive can be rebuilt from an older one.

    Attributes:
        members: Members of the old archive that are seen unpacked.
        ops: What the new one consists of.
    """

    members: tuple[int, ...]
    ops: tuple[ArchiveOperation, ...]


def is_archive(descriptor: int) -> bool:
    """Whether a file begins as an archive does."""
    return os.pread(descriptor, 4, 0) == b"PK\3\4"


def plan_archive(old: int, new: int) -> ArchivePlan | None:
    """Compare two archives member by member.

    Args:
        old: Descriptor of the old archive.
        new: Descriptor of the new one.

    Returns:
        None if one is no archive, or if nothing would be won.
    """
    try:
        return _ArchiveComparison(old, new).plan_rebuilding()
    except NotAnArchiveError:
        return None


class _ArchiveComparison:
    def __init__(self, old: int, new: int) -> None:
        self._old_file, self._new_file = old, new
        self._old, self._new = ZipTable(old, names=True), ZipTable(new, names=True)
        self._old_ahead, self._new_ahead = ReadAheadFile(lambda: old), ReadAheadFile(lambda: new)
        self._ops: list[ArchiveOperation] = []
        self._members: set[int] = set()
        self._by_content: dict[tuple[int, int, int, int], list[int]] = {}
        self._by_name: dict[bytes, int] = {}
        for index in range(len(self._old)):
            member = self._old[index]
            self._by_content.setdefault(self._key(self._old, index, member), []).append(index)
            self._by_name.setdefault(self._old.names[index], index)

    @cached_property
    def _by_stem(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for index, name in enumerate(self._old.names):
            found.setdefault(strip_varying_parts(name.decode("latin-1")), index)
        return found

    def plan_rebuilding(self) -> ArchivePlan | None:
        levels = list(DEFLATE_LEVELS)
        for index in range(len(self._new)):
            member = self._new[index]
            gap = self._new.get_gap(index)[1]
            same = self._find_same_member(index, member)
            if same is not None:
                self._add_members(same, gap)
                continue
            level = self._find_level(member, levels)
            if level is None:
                self._add_plain_bytes(gap + member.packed)
                continue
            levels.sort(key=lambda other: other != level)  # a maker keeps to its level
            self._add_plain_bytes(gap)
            self._ops.append(ArchiveOperation(ArchiveOperationKind.DEFLATE, member.plain, level))
            self._unpack_old(index)
        self._add_plain_bytes(self._new.get_gap(len(self._new))[1])
        if all(op.kind is ArchiveOperationKind.PLAIN for op in self._ops):
            return None
        return ArchivePlan(tuple(sorted(self._members)), tuple(self._ops))

    @staticmethod
    def _key(table: ZipTable, index: int, member: ZipMember) -> tuple[int, int, int, int]:
        return table.checks[index], member.packed, member.plain, member.method

    def _find_same_member(self, index: int, member: ZipMember) -> int | None:
        """Return an old member with the same packed bytes, preferably the next in sequence."""
        alike = self._by_content.get(self._key(self._new, index, member), [])
        last = self._ops[-1] if self._ops else None
        line = (
            last.argument + last.count if last and last.kind is ArchiveOperationKind.MEMBERS else -1
        )
        at = bisect_left(alike, line)  # there may be thousands, of empty files for one
        next_in_line = alike[at : at + 1] if alike[at : at + 1] == [line] else []
        for candidate in (*next_in_line, *alike[:MAX_TRIED_MEMBERS]):
            if self._is_equal(self._old[candidate], member):
                return candidate
        return None

    def _is_equal(self, old: ZipMember, new: ZipMember) -> bool:
        at = 0
        while at < new.packed:
            one = self._old_ahead.read(old.start + at, new.packed - at)
            other = self._new_ahead.read(new.start + at, len(one))
            if not other or not one.startswith(other):
                return False
            at += len(other)
        return True

    def _add_members(self, old: int, gap: int) -> None:
        last = self._ops[-1] if self._ops else None
        if (
            last is not None
            and last.kind is ArchiveOperationKind.MEMBERS
            and last.argument + last.count == old
            and self._old.get_gap(old)[1] == gap
        ):
            self._ops[-1] = ArchiveOperation(
                ArchiveOperationKind.MEMBERS, last.count + 1, last.argument
            )
            return
        self._add_plain_bytes(gap)
        self._ops.append(ArchiveOperation(ArchiveOperationKind.MEMBERS, 1, old))

    def _add_plain_bytes(self, count: int) -> None:
        if not count:
            return
        if self._ops and self._ops[-1].kind is ArchiveOperationKind.PLAIN:
            count += self._ops.pop().count
        self._ops.append(ArchiveOperation(ArchiveOperationKind.PLAIN, count))

    def _find_level(self, member: ZipMember, levels: list[int]) -> int | None:
        """Return the compression level that reproduces the bytes; None if there is none."""
        if member.method != DEFLATED:
            return None
        return next((level for level in levels if self._is_reproduced(member, level)), None)

    def _is_reproduced(self, member: ZipMember, level: int) -> bool:
        packer, at = make_deflater(level), member.start
        try:
            for piece in inflate_member(self._new_file, member):
                packed = packer.compress(piece)
                if packed != os.pread(self._new_file, len(packed), at):
                    return False
                at += len(packed)
        except NotAnArchiveError:
            return False
        packed = packer.flush()
        end = at + len(packed)
        return end == member.end and packed == os.pread(self._new_file, len(packed), at)

    def _unpack_old(self, index: int) -> None:
        name = self._new.names[index]
        old = self._by_name.get(name)
        if old is None:
            old = self._by_stem.get(strip_varying_parts(name.decode("latin-1")))
        if old is not None and self._is_readable(old):
            self._members.add(old)

    def _is_readable(self, old: int) -> bool:
        if old in self._members:
            return True
        try:
            for _ in inflate_member(self._old_file, self._old[old]):
                pass
        except NotAnArchiveError:
            return False
        return True


def iter_archive_view(descriptor: int, plan: ArchivePlan, old: ZipTable) -> Iterator[bytes]:
    """Yield the bytes of a new archive that go into the streams of its group.

    Args:
        descriptor: The new archive.
        plan: How it is rebuilt.
        old: Members of the old archive.
    """
    table = ZipTable(descriptor)
    starts = {table[index].start: index for index in range(len(table))}
    at = 0
    for op in plan.ops:
        if op.kind is ArchiveOperationKind.PLAIN:
            yield from _read_range(descriptor, at, op.count)
            at += op.count
        elif op.kind is ArchiveOperationKind.DEFLATE:
            member = table[starts[at]]
            yield from inflate_member(descriptor, member)
            at = member.end
        else:
            for index in range(op.argument, op.argument + op.count):
                gap = old.get_gap(index)[1] if index > op.argument else 0
                yield from _read_range(descriptor, at, gap)
                at += gap + old[index].packed


def _read_range(descriptor: int, at: int, length: int) -> Iterator[bytes]:
    while length:
        piece = os.pread(descriptor, min(PIECE, length), at)
        at += len(piece)
        length -= len(piece)
        yield piece
