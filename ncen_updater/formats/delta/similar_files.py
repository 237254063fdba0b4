"""Find the old files that new ones are built from, and group both. Pure.

The match finder sees the old files that are gone or changed. What a new file has of others would
have to come in full, so those that stay are looked for by samples of their content, and so are new
files that stand too far before it for a dictionary. They are referred to as well.

A new file whose name says nothing is compared by its words: names of properties, paths, texts for
people stand in few other files. Each such word speaks for the old files that it stands in.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import TypeVar
from zlib import crc32

from ncen_updater.formats.delta.index_reader import list_changed_files
from ncen_updater.formats.delta.lzma_streams import compute_dictionary_bytes
from ncen_updater.formats.delta.pack_plan import NewEntry, PackPlan, split_path
from ncen_updater.formats.tree import Tree

# Some bytes after one of a few that are frequent in text or in programs: wherever two files are the
# same for a while, the same places are found in both.
SAMPLE_PATTERN = re.compile(rb"[,;aeo\x01\x08\x24\x40\x83\x8b\xc0\xe8].{23}", re.DOTALL)
SAMPLE_ONE_IN = 4  # one sample in so many is looked at, the same ones in every file
LEAST_SAMPLES = 4  # so many must be found again
MIN_SHARED_SAMPLES_NEW = 512  # or in a new file, as that takes another group: of some 80 kB

Pieces = Callable[[], Iterable[bytes]]


def sample_content(pieces: Iterable[bytes]) -> set[int]:
    """Return numbers that stand for what is in a file."""
    found: set[int] = set()
    for piece in pieces:
        found.update(map(crc32, SAMPLE_PATTERN.findall(piece)))
    return {number for number in found if number % SAMPLE_ONE_IN == 0}


@dataclass
class SimilarFiles:
    """What new files have something of, by their paths.

    Attributes:
        stays: Old files that stay or only moved, by index.
        earlier: New files that stand before them, by path.
    """

    stays: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    earlier: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def find_similar_files(
    built: Mapping[str, Pieces], known: Iterable[Pieces], unchanged_files: Mapping[int, Pieces]
) -> SimilarFiles:
    """Say which files that stay, and which others that are new, have what new ones have.

    Args:
        built: Content of the new files, by path, in the order in which they are built.
        known: Content of the old ones that they are compared with in any case.
        unchanged_files: Content of the others, by index.
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
                for number in numbers:  # what another file has of it is not needed then
                    del owner[number]
    for path, repeated in again.items():
        for first, numbers in _map_samples_to_owners(owner, repeated).items():
            if len(numbers) >= MIN_SHARED_SAMPLES_NEW:
                similar.earlier[path].add(first)
    return similar


def _map_samples_to_owners(
    owner: Mapping[int, str], numbers: Iterable[int]
) -> dict[str, list[int]]:
    """Which of some numbers belong to which new file."""
    found: dict[str, list[int]] = defaultdict(list)
    for number in numbers:
        if number in owner:
            found[owner[number]].append(number)
    return found


WORD_PATTERN = re.compile(rb"[0-9A-Za-z_$-]{8,64}")
WORD_ONE_IN = 8  # one word in so many is looked at, the same ones in every file
MAX_FILES_PER_WORD = 4  # a word that stands in more old files says nothing
LEAST_WORDS = 3  # so many words must speak for a file


class TextSimilarityIndex:
    """Old files by their words."""

    def __init__(self) -> None:
        self._where: dict[int, list[int]] = defaultdict(list)

    def add_file(self, index: int, pieces: Iterable[bytes]) -> None:
        """Take in an old file; in ascending order, so that the same files give the same answers."""
        for word in _sample_words(pieces):
            self._where[word].append(index)

    def find_most_similar(self, pieces: Iterable[bytes]) -> int | None:
        """Return the index of the old file that a new one is most like; None if it is like none."""
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
        files: In the order of the tree.
        refs: Indexes of old files, ascending.
        earlier: Indexes of entries that groups before it build, ascending.
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
    """Cut the files that are built into groups, in the order of the tree.

    Code moves between files, so a group refers to every old file that is gone or changed, not only
    to those that its files are paired with; where there are several groups, to those that stood
    where its files stand, as far as the match finder sees them all at once, or else where there is
    room. Old files that only moved are left out: nothing else is likely in them.

    Args:
        plan: The entries.
        old: The old tree.
        weight: Bytes of a file in the streams.
        group_bytes: A group is closed before it gets larger, unless it is one file.
        reference_bytes: Likewise before the old files that it is paired with get larger.
        similar_files: What else new files have something of. A group is closed before one that is
            like another in it which is further away than a dictionary reaches.
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
    _add_references(made, plan, old, reference_bytes, similar_files)
    return made


def _count_added_reference_bytes(entry: NewEntry, pairs: set[int], old: Tree) -> int:
    """Bytes that a group refers to beside its pairs if a file comes into it."""
    return (
        0
        if entry.similar_to is None or entry.similar_to in pairs
        else old.entries[entry.similar_to].size
    )


def _add_references(
    made: list[FileBatch],
    plan: PackPlan,
    old: Tree,
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
    for index in list_changed_files(plan, old):
        if made and index not in paired and index not in moved:
            entry = old.entries[index]
            first = max(bisect_right(firsts, split_path(entry.path)) - 1, 0)
            for at in (first, *range(len(made))):
                if entry.size <= room[at] or not chosen[at]:
                    chosen[at].add(index)
                    room[at] -= entry.size
                    break
    candidates = set(list_changed_files(plan, old))
    for batch, refs in zip(made, chosen, strict=True):
        batch.refs = sorted(refs & candidates)


def _add_earlier_references(
    made: list[FileBatch], plan: PackPlan, room: list[int], similar: SimilarFiles
) -> None:
    """Let groups refer to what those before them build, as far as there is room."""
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
