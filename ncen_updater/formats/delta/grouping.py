"""Which files are built together, and from which old files; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import TypeVar

from ncen_updater.formats.delta.index_writer import changed_files
from ncen_updater.formats.delta.kin import Kin
from ncen_updater.formats.delta.layout import Fresh, LayoutPlan
from ncen_updater.formats.delta.path_rules import order
from ncen_updater.formats.delta.streams import dictionary_bytes
from ncen_updater.formats.tree import Tree


@dataclass
class Batch:
    """Files of one group.

    Attributes:
        files: In the order of the tree.
        refs: Indexes of old files, ascending.
        earlier: Indexes of entries that groups before it build, ascending.
    """

    files: list[Fresh] = field(default_factory=list)
    refs: list[int] = field(default_factory=list)
    earlier: list[int] = field(default_factory=list)


def batches(
    plan: LayoutPlan,
    old: Tree,
    weight: Callable[[Fresh], int],
    group_bytes: int,
    reference_bytes: int,
    kin: Kin,
) -> list[Batch]:
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
        kin: What else new files have something of. A group is closed before one that is like
            another in it which is further away than a dictionary reaches.
    """
    made: list[Batch] = []
    pairs: set[int] = set()
    ends: dict[str, int] = {}
    have = paired = 0
    for entry in plan.entries:
        if not isinstance(entry, Fresh) or not entry.built:
            continue
        size = weight(entry)
        more = _more(entry, pairs, old)
        far = any(
            have - ends[path] >= dictionary_bytes(have)
            for path in kin.earlier.get(entry.path, ())
            if path in ends
        )
        if not made or have + size > group_bytes or paired + more > reference_bytes or far:
            made.append(Batch())
            pairs.clear()
            ends.clear()
            have, paired = 0, 0
            more = _more(entry, pairs, old)
        made[-1].files.append(entry)
        if entry.like is not None:
            pairs.add(entry.like)
        have += size
        ends[entry.path] = have
        paired += more
    _refer(made, plan, old, reference_bytes, kin)
    return made


def _more(entry: Fresh, pairs: set[int], old: Tree) -> int:
    """Bytes that a group refers to beside its pairs if a file comes into it."""
    return 0 if entry.like is None or entry.like in pairs else old.entries[entry.like].size


def _refer(
    made: list[Batch],
    plan: LayoutPlan,
    old: Tree,
    reference_bytes: int,
    kin: Kin,
) -> None:
    chosen: list[set[int]] = [
        {entry.like for entry in batch.files if entry.like is not None} for batch in made
    ]
    paired = set().union(*chosen)
    moved = {e.origin for e in plan.entries if isinstance(e, Fresh) and e.origin is not None}
    firsts = [order(batch.files[0].path) for batch in made]
    room = [reference_bytes - sum(old.entries[i].size for i in refs) for refs in chosen]
    for at, batch in enumerate(made):
        for index in _kin(kin.stays, batch):
            if old.entries[index].size <= room[at] or not chosen[at]:
                chosen[at].add(index)
                room[at] -= old.entries[index].size
    _refer_back(made, plan, room, kin)
    for index in changed_files(plan, old):
        if made and index not in paired and index not in moved:
            entry = old.entries[index]
            first = max(bisect_right(firsts, order(entry.path)) - 1, 0)
            for at in (first, *range(len(made))):
                if entry.size <= room[at] or not chosen[at]:
                    chosen[at].add(index)
                    room[at] -= entry.size
                    break
    candidates = set(changed_files(plan, old))
    for batch, refs in zip(made, chosen, strict=True):
        batch.refs = sorted(refs & candidates)


def _refer_back(made: list[Batch], plan: LayoutPlan, room: list[int], kin: Kin) -> None:
    """Let groups refer to what those before them build, as far as there is room."""
    number = {entry.path: at for at, entry in enumerate(plan.entries) if isinstance(entry, Fresh)}
    built: dict[str, Fresh] = {}
    for at, batch in enumerate(made):
        for path in _kin(kin.earlier, batch):
            if path in built and built[path].size <= room[at]:
                batch.earlier.append(number[path])
                room[at] -= built[path].size
        batch.earlier.sort()
        built |= {entry.path: entry for entry in batch.files}


Name = TypeVar("Name", int, str)


def _kin(kin: Mapping[str, Set[Name]], batch: Batch) -> list[Name]:
    return sorted(set[Name]().union(*(kin.get(entry.path, set()) for entry in batch.files)))
