"""The publisher's side of archives: which members changed, proved to be made again exactly."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ncen_updater.formats.delta.layout import Op, OpKind
from ncen_updater.formats.delta.model import deflated
from ncen_updater.formats.delta.pairing import stem
from ncen_updater.formats.delta.read_ahead import Ahead
from ncen_updater.formats.delta.zips import DEFLATED, NotAnArchive, ZipMember, ZipTable, inflate

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
