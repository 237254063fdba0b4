"""The publisher's view of two trees: what stays, what moved, what was renamed, what is new.

Renames are the rule, not the exception: a hash in the name of an asset, a version in that of a
library or of its directory. So paths are compared with hashes, versions and numbers left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

from ncen_updater.common.messages import DELTA_NOT_POSSIBLE
from ncen_updater.formats.delta.errors import DeltaNotMade
from ncen_updater.formats.delta.layout import Fresh, LayoutPlan
from ncen_updater.formats.delta.path_rules import PathRefused, PathRules, check_link
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
