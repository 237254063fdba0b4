"""Which files are built together, and from which old files; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from ncen_updater.formats.delta.index_writer import changed_files
from ncen_updater.formats.delta.layout import Fresh, LayoutPlan
from ncen_updater.formats.delta.path_rules import order
from ncen_updater.formats.tree import Tree

__all__ = ["Batch", "batches"]


@dataclass
class Batch:
    """Files of one group.

    Attributes:
        files: In the order of the tree.
        refs: Indexes of old files, ascending.
    """

    files: list[Fresh] = field(default_factory=list)
    refs: list[int] = field(default_factory=list)


def batches(
    plan: LayoutPlan, old: Tree, weight: Callable[[Fresh], int], group_bytes: int
) -> list[Batch]:
    """Cut the files that are built into groups, in the order of the tree.

    Code moves between files, so a group refers to every old file that is gone or changed, not only
    to those that its files are paired with; where there are several groups, to those that stood
    where its files stand. Old files that only moved are left out: nothing else is likely in them.

    Args:
        plan: The entries.
        old: The old tree.
        weight: Bytes of a file in the streams.
        group_bytes: A group is closed before it gets larger, unless it is one file.
    """
    made: list[Batch] = []
    have = 0
    for entry in plan.entries:
        if not isinstance(entry, Fresh) or not entry.built:
            continue
        size = weight(entry)
        if not made or have + size > group_bytes:
            made.append(Batch())
            have = 0
        made[-1].files.append(entry)
        have += size
    _refer(made, plan, old)
    return made


def _refer(made: list[Batch], plan: LayoutPlan, old: Tree) -> None:
    chosen: list[set[int]] = [
        {entry.like for entry in batch.files if entry.like is not None} for batch in made
    ]
    paired = set().union(*chosen)
    moved = {e.origin for e in plan.entries if isinstance(e, Fresh) and e.origin is not None}
    firsts = [order(batch.files[0].path) for batch in made]
    for index in changed_files(plan, old):
        if made and index not in paired and index not in moved:
            at = bisect_right(firsts, order(old.entries[index].path)) - 1
            chosen[max(at, 0)].add(index)
    candidates = set(changed_files(plan, old))
    for batch, refs in zip(made, chosen, strict=True):
        batch.refs = sorted(refs & candidates)
