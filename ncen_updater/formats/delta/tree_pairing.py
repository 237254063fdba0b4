"""Compare two trees for a delta pack: unchanged, moved, renamed, new and similar files.

Renames are common: assets have hashes in their names, libraries and their directories have
versions. So paths are compared without hashes, versions and numbers. For archives, the changed
members are found, and whether they can be reproduced exactly.

The match finder sees only old files that were dropped or changed. Unchanged old files, and new
files beyond the reach of a dictionary, may be similar as well. They are found by samples of their
content, so that a group can refer to them.

A new file without a paired name is compared by its words: names of properties, paths and texts
occur in few other files. Each such word counts for the old files that contain it.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar
from zlib import crc32

from ncen_updater.formats.delta.index_reader import list_changed_files
from ncen_updater.formats.delta.lzma_streams import ReadAheadFile, compute_dictionary_bytes
from ncen_updater.formats.delta.pack_plan import (
    ArchiveOperation,
    ArchiveOperationKind,
    NewEntry,
    PackPlan,
    make_deflater,
    split_path,
)
from ncen_updater.formats.delta.zip_archive import (
    DEFLATED,
    NotAnArchiveError,
    ZipMember,
    ZipTable,
    inflate_member,
)
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

# Bytes after one of a few byte values that are frequent in text or programs. Where two files have
# equal bytes, the same samples are found in both.
SAMPLE_PATTERN = re.compile(rb"[,;aeo\x01\x08\x24\x40\x83\x8b\xc0\xe8].{23}", re.DOTALL)
SAMPLE_ONE_IN = 4  # one sample in this many is used, the same ones in every file
LEAST_SAMPLES = 4  # minimum number of equal samples
MIN_SHARED_SAMPLES_NEW = 512  # minimum for a new file, which requires another group: some 80 kB

Pieces = Callable[[], Iterable[bytes]]
MIN_COPY_BYTES = 4096  # a smaller copy compresses to almost nothing beside the first
# Hexadecimal digits with at least one decimal digit, six or more; or a run of decimal digits.
VERSION_LIKE_PART = re.compile(r"(?=[0-9a-f]*[0-9])[0-9a-f]{6,}|[0-9]+(?:[._-]?[0-9]+)*")


def strip_varying_parts(path: str) -> str:
    """Return a path without the parts that change from release to release."""
    return VERSION_LIKE_PART.sub("#", path.lower())


def pair_trees(old: Tree, new: Tree) -> PackPlan:
    """Determine the source of each entry of the new tree; the plan has no groups yet."""
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


class _TreePairing:
    def __init__(self, old: Tree, new: Tree) -> None:
        self._old = old.entries
        self._at = {entry.path: index for index, entry in enumerate(old.entries)}
        self._by_content: dict[tuple[str | None, ...], int] = {}
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        stays = {entry.path for entry in new.entries if entry.type is EntryType.FILE}
        for index, entry in enumerate(old.entries):
            if entry.sha256 is not None:
                for key in _list_content_keys(entry):
                    self._by_content.setdefault(key, index)
                if entry.path not in stays:
                    self._by_stem[strip_varying_parts(entry.path)].append(index)

    def pair_entry(self, entry: TreeEntry) -> int | NewEntry:
        """Determine the source of one entry."""
        index = self._at.get(entry.path)
        if index is not None and self._old[index] == entry:
            return index
        fresh = NewEntry(entry.path, entry.type, entry.mode, entry.size, target=entry.target)
        if entry.sha256 is None:
            return fresh
        for key in _list_content_keys(entry):
            if key in self._by_content:
                return replace(fresh, origin=self._by_content[key])
        if index is not None and self._old[index].type is EntryType.FILE:
            return replace(fresh, similar_to=index)
        renamed = self._by_stem.get(strip_varying_parts(entry.path))
        if renamed:
            best = min(renamed, key=lambda i: (abs(self._old[i].size - entry.size), i))
            return replace(fresh, similar_to=best)
        return fresh


def _list_content_keys(entry: TreeEntry) -> tuple[tuple[str | None, ...], ...]:
    """Return what files of equal content may share: path, stem or name first."""
    digest, name = entry.sha256, entry.path.rpartition("/")[2]
    stem = strip_varying_parts(entry.path)
    return (
        (digest, "path", entry.path), (digest, "both", stem, name), (digest, "stem", stem),
        (digest, "name", name), (digest,),
    )  # fmt: skip


MAX_TRIED_MEMBERS = 4  # old members of the same length and checksum
DEFLATE_LEVELS = (6, 9, 1)  # levels that archivers use, the default first
PIECE = 256 << 10


@dataclass(frozen=True)
class ArchivePlan:
    """How an archive can be rebuilt from an older one.

    Attributes:
        members: Old members that are decompressed for the reference.
        ops: Pieces of the new archive.
    """

    members: tuple[int, ...]
    ops: tuple[ArchiveOperation, ...]


def is_archive(descriptor: int) -> bool:
    """Return whether a file begins with the signature of a zip archive."""
    return os.pread(descriptor, 4, 0) == b"PK\3\4"


def plan_archive(old: int, new: int) -> ArchivePlan | None:
    """Compare two archives member by member.

    Args:
        old: Descriptor of the old archive.
        new: Descriptor of the new archive.

    Returns:
        None if one is not an archive, or if rebuilding saves nothing.
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
            # all members of an archive usually have one level
            levels.sort(key=lambda other: other != level)
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
        """Return an old member with the same compressed bytes, preferably the next in sequence."""
        alike = self._by_content.get(self._key(self._new, index, member), [])
        last = self._ops[-1] if self._ops else None
        line = (
            last.argument + last.count if last and last.kind is ArchiveOperationKind.MEMBERS else -1
        )
        at = bisect_left(alike, line)  # there may be thousands, for example of empty files
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


def sample_content(pieces: Iterable[bytes]) -> set[int]:
    """Return the sample numbers of a file's content."""
    found: set[int] = set()
    for piece in pieces:
        found.update(map(crc32, SAMPLE_PATTERN.findall(piece)))
    return {number for number in found if number % SAMPLE_ONE_IN == 0}


@dataclass
class SimilarFiles:
    """Files that are similar to new files, by the new files' paths.

    Attributes:
        stays: Unchanged or moved old files, by index.
        earlier: Earlier new files, by path.
    """

    stays: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    earlier: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def find_similar_files(
    built: Mapping[str, Pieces], known: Iterable[Pieces], unchanged_files: Mapping[int, Pieces]
) -> SimilarFiles:
    """Find unchanged old files and earlier new files that are similar to new files.

    Args:
        built: Content of the new files, by path, in the order in which they are built.
        known: Content of the old files that groups refer to anyway.
        unchanged_files: Content of the other old files, by index.
    """
    similar = SimilarFiles()
    owner: dict[int, str] = {}
    again: dict[str, list[int]] = {}
    for path, pieces in built.items():
        found = sample_content(pieces())
        again[path] = [number for number in found if number in owner]
        owner |= dict.fromkeys(found.difference(owner), path)
    for pieces in known:
        for number in sample_content(pieces()):
            owner.pop(number, None)
    for index, pieces in unchanged_files.items():
        if len(owner) < LEAST_SAMPLES:
            break
        for path, numbers in _map_samples_to_owners(owner, sample_content(pieces())).items():
            if len(numbers) >= LEAST_SAMPLES:
                similar.stays[path].add(index)
                for number in numbers:  # these samples are covered: other files need not have them
                    del owner[number]
    for path, repeated in again.items():
        for first, numbers in _map_samples_to_owners(owner, repeated).items():
            if len(numbers) >= MIN_SHARED_SAMPLES_NEW:
                similar.earlier[path].add(first)
    return similar


def _map_samples_to_owners(
    owner: Mapping[int, str], numbers: Iterable[int]
) -> dict[str, list[int]]:
    """Map sample numbers to the new files that have them."""
    found: dict[str, list[int]] = defaultdict(list)
    for number in numbers:
        if number in owner:
            found[owner[number]].append(number)
    return found


WORD_PATTERN = re.compile(rb"[0-9A-Za-z_$-]{8,64}")
WORD_ONE_IN = 8  # one word in this many is used, the same ones in every file
MAX_FILES_PER_WORD = 4  # a word in more old files is ignored
LEAST_WORDS = 3  # minimum number of words that a similar file shares


class TextSimilarityIndex:
    """Index of old files by their words."""

    def __init__(self) -> None:
        self._where: dict[int, list[int]] = defaultdict(list)

    def add_file(self, index: int, pieces: Iterable[bytes]) -> None:
        """Add an old file; add files in ascending order, so that results are reproducible."""
        for word in _sample_words(pieces):
            self._where[word].append(index)

    def find_most_similar(self, pieces: Iterable[bytes]) -> int | None:
        """Return the index of the most similar old file; None if none is similar enough."""
        votes: Counter[int] = Counter()
        for word in _sample_words(pieces):
            where = self._where.get(word, ())
            if len(where) <= MAX_FILES_PER_WORD:
                votes.update(where)
        if not votes:
            return None
        index, count = min(votes.items(), key=lambda vote: (-vote[1], vote[0]))
        return index if count >= LEAST_WORDS else None


def _sample_words(pieces: Iterable[bytes]) -> set[int]:
    found: set[int] = set()
    for piece in pieces:
        found.update(map(crc32, set(WORD_PATTERN.findall(piece))))
    return {number for number in found if number % WORD_ONE_IN == 0}


@dataclass
class FileBatch:
    """Files of one group.

    Attributes:
        files: New files, in the order of the tree.
        refs: Indexes of old files, ascending.
        earlier: Indexes of entries that earlier groups build, ascending.
    """

    files: list[NewEntry] = field(default_factory=list)
    refs: list[int] = field(default_factory=list)
    earlier: list[int] = field(default_factory=list)


def plan_batches(
    plan: PackPlan,
    old: Tree,
    weight: Callable[[NewEntry], int],
    group_bytes: int,
    reference_bytes: int,
    similar_files: SimilarFiles,
) -> list[FileBatch]:
    """Divide the built files into groups, in the order of the tree.

    Code moves between files, so a group refers to all old files that were dropped or changed, not
    only to the paired ones. If there are several groups, each gets the old files from the same part
    of the tree, as far as they fit into the match finder's window, else those for which there is
    room. Old files that only moved are left out, because they are unlikely to resemble other files.

    Args:
        plan: The entries.
        old: The old tree.
        weight: Returns the bytes of a file in the streams.
        group_bytes: A group is closed before it exceeds this size, unless it has one file.
        reference_bytes: The same for the paired old files of a group.
        similar_files: Further similar files. A group is closed before a file that is similar to
            another one of the group beyond the reach of the dictionary. They are ignored if a pack
            would have more references than files.
    """
    made: list[FileBatch] = []
    pairs: set[int] = set()
    ends: dict[str, int] = {}
    have = paired = 0
    for entry in plan.entries:
        if not isinstance(entry, NewEntry) or not entry.is_built:
            continue
        size = weight(entry)
        more = _count_added_reference_bytes(entry, pairs, old)
        far = any(
            have - ends[path] >= compute_dictionary_bytes(have)
            for path in similar_files.earlier.get(entry.path, ())
            if path in ends
        )
        if not made or have + size > group_bytes or paired + more > reference_bytes or far:
            made.append(FileBatch())
            pairs.clear()
            ends.clear()
            have, paired = 0, 0
            more = _count_added_reference_bytes(entry, pairs, old)
        made[-1].files.append(entry)
        if entry.similar_to is not None:
            pairs.add(entry.similar_to)
        have += size
        ends[entry.path] = have
        paired += more
    changed = list_changed_files(plan, old)
    _add_references(made, plan, old, changed, reference_bytes, similar_files)
    references = sum(len(batch.refs) + len(batch.earlier) for batch in made)
    if references > len(changed) + sum(len(batch.files) for batch in made):
        return plan_batches(plan, old, weight, group_bytes, reference_bytes, SimilarFiles())
    return made


def _count_added_reference_bytes(entry: NewEntry, pairs: set[int], old: Tree) -> int:
    """Return the additional reference bytes if a file joins a group."""
    return (
        0
        if entry.similar_to is None or entry.similar_to in pairs
        else old.entries[entry.similar_to].size
    )


def _add_references(
    made: list[FileBatch],
    plan: PackPlan,
    old: Tree,
    changed: list[int],
    reference_bytes: int,
    similar: SimilarFiles,
) -> None:
    chosen: list[set[int]] = [
        {entry.similar_to for entry in batch.files if entry.similar_to is not None}
        for batch in made
    ]
    paired = set().union(*chosen)
    moved = {e.origin for e in plan.entries if isinstance(e, NewEntry) and e.origin is not None}
    firsts = [split_path(batch.files[0].path) for batch in made]
    room = [reference_bytes - sum(old.entries[i].size for i in refs) for refs in chosen]
    for at, batch in enumerate(made):
        for index in _list_similar(similar.stays, batch):
            if old.entries[index].size <= room[at] or not chosen[at]:
                chosen[at].add(index)
                room[at] -= old.entries[index].size
    _add_earlier_references(made, plan, room, similar)
    for index in changed:
        if made and index not in paired and index not in moved:
            entry = old.entries[index]
            first = max(bisect_right(firsts, split_path(entry.path)) - 1, 0)
            for at in (first, *range(len(made))):
                if entry.size <= room[at] or not chosen[at]:
                    chosen[at].add(index)
                    room[at] -= entry.size
                    break
    for batch, refs in zip(made, chosen, strict=True):
        batch.refs = sorted(refs.intersection(changed))


def _add_earlier_references(
    made: list[FileBatch], plan: PackPlan, room: list[int], similar: SimilarFiles
) -> None:
    """Let groups refer to files that earlier groups build, as far as there is room."""
    number = {
        entry.path: at for at, entry in enumerate(plan.entries) if isinstance(entry, NewEntry)
    }
    built: dict[str, NewEntry] = {}
    for at, batch in enumerate(made):
        for path in _list_similar(similar.earlier, batch):
            if path in built and built[path].size <= room[at]:
                batch.earlier.append(number[path])
                room[at] -= built[path].size
        batch.earlier.sort()
        built |= {entry.path: entry for entry in batch.files}


Name = TypeVar("Name", int, str)


def _list_similar(similar: Mapping[str, Set[Name]], batch: FileBatch) -> list[Name]:
    return sorted(set[Name]().union(*(similar.get(entry.path, set()) for entry in batch.files)))
