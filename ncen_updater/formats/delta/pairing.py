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
from ncen_updater.formats.delta.layout import (
    Fresh,
    LayoutPlan,
    Op,
    OpKind,
    PathRefused,
    PathRules,
    check_link,
)
from ncen_updater.formats.delta.model import DeltaNotMade, deflated
from ncen_updater.formats.delta.streams import Ahead
from ncen_updater.formats.delta.zips import DEFLATED, NotAnArchive, ZipMember, ZipTable, inflate
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

LEAST_COPY = 4096  # a smaller one costs next to nothing, where it is packed beside the first
# A run of hexadecimal digits with at least one figure, of six or more; or a run of figures.
VARYING = re.compile(r"(?=[0-9a-f]*[0-9])[0-9a-f]{6,}|[0-9]+(?:[._-]?[0-9]+)*")


def stem(path: str) -> str:
    """A path without what changes from release to release."""
    return VARYING.sub("#", path.lower())


def pair(old: Tree, new: Tree) -> LayoutPlan:
    """Say where each entry of the new tree comes from; the plan has no groups yet.

    Raises:
        DeltaNotPossible: If the new tree has a path that no pack may name.
    """
    _check(new)
    pairs = _Pairs(old, new)
    plan = LayoutPlan()
    first: dict[str, int] = {}
    for at, entry in enumerate(new.entries):
        made = pairs.entry(entry)
        if isinstance(made, Fresh) and made.built and made.size >= LEAST_COPY:
            copy_of = first.setdefault(entry.sha256 or "", at)
            if copy_of != at:
                made = replace(made, copy_of=copy_of, like=None)
        plan.entries.append(made)
    return plan


def _check(new: Tree) -> None:
    rules = PathRules()
    try:
        for entry in new.entries:
            rules.see(entry.path, is_directory=entry.type is EntryType.DIRECTORY)
            if entry.target is not None:
                check_link(entry.path, entry.target)
    except PathRefused as error:
        raise DeltaNotMade(DELTA_NOT_POSSIBLE, detail=str(error)) from error


class _Pairs:
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
                    self._by_stem[stem(entry.path)].append(index)

    def entry(self, entry: TreeEntry) -> int | Fresh:
        """Where one entry comes from."""
        index = self._at.get(entry.path)
        if index is not None and self._old[index] == entry:
            return index
        fresh = Fresh(entry.path, entry.type, entry.mode, entry.size, target=entry.target)
        if entry.sha256 is None:
            return fresh
        alike = self._by_digest.get(entry.sha256)
        if alike:
            best = min(alike, key=lambda i: self._distance(i, entry.path))
            return _from(fresh, origin=best)
        if index is not None and self._old[index].type is EntryType.FILE:
            return _from(fresh, like=index)
        renamed = self._by_stem.get(stem(entry.path))
        if renamed:
            best = min(renamed, key=lambda i: (abs(self._old[i].size - entry.size), i))
            return _from(fresh, like=best)
        return fresh

    def _distance(self, index: int, path: str) -> tuple[bool, bool, bool, int]:
        """Of files with one content: the same path, else one with the same stem or name."""
        other = self._old[index].path
        return (
            other != path,
            stem(other) != stem(path),
            other.rpartition("/")[2] != path.rpartition("/")[2],
            index,
        )


def _from(fresh: Fresh, origin: int | None = None, like: int | None = None) -> Fresh:
    return Fresh(
        fresh.path, fresh.type, fresh.mode, fresh.size, origin=origin, target=None, like=like
    )


MOST_TRIED = 4  # old members of the same length and check sum
LEVELS = (6, 9, 1)  # what makers of archives use, the usual one first
PIECE = 256 << 10


@dataclass(frozen=True)
class ArchivePlan:
    """How an archive can be rebuilt from an older one.

    Attributes:
        members: Members of the old archive that are seen unpacked.
        ops: What the new one consists of.
    """

    members: tuple[int, ...]
    ops: tuple[Op, ...]


def looks_like_archive(descriptor: int) -> bool:
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
        return _Comparison(old, new).plan()
    except NotAnArchive:
        return None


class _Comparison:
    def __init__(self, old: int, new: int) -> None:
        self._old_file, self._new_file = old, new
        self._old, self._new = ZipTable(old, names=True), ZipTable(new, names=True)
        self._old_ahead, self._new_ahead = Ahead(lambda: old), Ahead(lambda: new)
        self._ops: list[Op] = []
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
            found.setdefault(stem(name.decode("latin-1")), index)
        return found

    def plan(self) -> ArchivePlan | None:
        levels = list(LEVELS)
        for index in range(len(self._new)):
            member = self._new[index]
            gap = self._new.gap(index)[1]
            same = self._same(index, member)
            if same is not None:
                self._take(same, gap)
                continue
            level = self._level(member, levels)
            if level is None:
                self._plain(gap + member.packed)
                continue
            levels.sort(key=lambda other: other != level)  # a maker keeps to its level
            self._plain(gap)
            self._ops.append(Op(OpKind.DEFLATE, member.plain, level))
            self._unpack_old(index)
        self._plain(self._new.gap(len(self._new))[1])
        if all(op.kind is OpKind.PLAIN for op in self._ops):
            return None
        return ArchivePlan(tuple(sorted(self._members)), tuple(self._ops))

    @staticmethod
    def _key(table: ZipTable, index: int, member: ZipMember) -> tuple[int, int, int, int]:
        return table.checks[index], member.packed, member.plain, member.method

    def _same(self, index: int, member: ZipMember) -> int | None:
        """An old member with the same packed bytes; the next in line if it is one of several."""
        alike = self._by_content.get(self._key(self._new, index, member), [])
        last = self._ops[-1] if self._ops else None
        line = last.argument + last.count if last and last.kind is OpKind.MEMBERS else -1
        at = bisect_left(alike, line)  # there may be thousands, of empty files for one
        next_in_line = alike[at : at + 1] if alike[at : at + 1] == [line] else []
        for candidate in (*next_in_line, *alike[:MOST_TRIED]):
            if self._equal(self._old[candidate], member):
                return candidate
        return None

    def _equal(self, old: ZipMember, new: ZipMember) -> bool:
        at = 0
        while at < new.packed:
            one = self._old_ahead.read(old.start + at, new.packed - at)
            other = self._new_ahead.read(new.start + at, len(one))
            if not other or not one.startswith(other):
                return False
            at += len(other)
        return True

    def _take(self, old: int, gap: int) -> None:
        last = self._ops[-1] if self._ops else None
        if (
            last is not None
            and last.kind is OpKind.MEMBERS
            and last.argument + last.count == old
            and self._old.gap(old)[1] == gap
        ):
            self._ops[-1] = Op(OpKind.MEMBERS, last.count + 1, last.argument)
            return
        self._plain(gap)
        self._ops.append(Op(OpKind.MEMBERS, 1, old))

    def _plain(self, count: int) -> None:
        if not count:
            return
        if self._ops and self._ops[-1].kind is OpKind.PLAIN:
            count += self._ops.pop().count
        self._ops.append(Op(OpKind.PLAIN, count))

    def _level(self, member: ZipMember, levels: list[int]) -> int | None:
        """The level that makes the same bytes again; None if there is none."""
        if member.method != DEFLATED:
            return None
        return next((level for level in levels if self._reproduced(member, level)), None)

    def _reproduced(self, member: ZipMember, level: int) -> bool:
        packer, at = deflated(level), member.start
        try:
            for piece in inflate(self._new_file, member):
                packed = packer.compress(piece)
                if packed != os.pread(self._new_file, len(packed), at):
                    return False
                at += len(packed)
        except NotAnArchive:
            return False
        packed = packer.flush()
        end = at + len(packed)
        return end == member.end and packed == os.pread(self._new_file, len(packed), at)

    def _unpack_old(self, index: int) -> None:
        name = self._new.names[index]
        old = self._by_name.get(name)
        if old is None:
            old = self._by_stem.get(stem(name.decode("latin-1")))
        if old is not None and self._readable(old):
            self._members.add(old)

    def _readable(self, old: int) -> bool:
        if old in self._members:
            return True
        try:
            for _ in inflate(self._old_file, self._old[old]):
                pass
        except NotAnArchive:
            return False
        return True


def new_view(descriptor: int, plan: ArchivePlan, old: ZipTable) -> Iterator[bytes]:
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
        if op.kind is OpKind.PLAIN:
            yield from _bytes(descriptor, at, op.count)
            at += op.count
        elif op.kind is OpKind.DEFLATE:
            member = table[starts[at]]
            yield from inflate(descriptor, member)
            at = member.end
        else:
            for index in range(op.argument, op.argument + op.count):
                gap = old.gap(index)[1] if index > op.argument else 0
                yield from _bytes(descriptor, at, gap)
                at += gap + old[index].packed


def _bytes(descriptor: int, at: int, length: int) -> Iterator[bytes]:
    while length:
        piece = os.pread(descriptor, min(PIECE, length), at)
        at += len(piece)
        length -= len(piece)
        yield piece
