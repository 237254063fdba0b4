"""Writes the index that ``index`` reads."""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.formats.delta.index import Columns, GroupWay, IndexStep
from ncen_updater.formats.delta.index_columns import put_number, put_signed, put_text
from ncen_updater.formats.delta.layout import (
    Fresh,
    Group,
    LayoutPlan,
    OpKind,
    Recipe,
    Ref,
)
from ncen_updater.formats.delta.path_rules import order
from ncen_updater.formats.delta.renaming import CORRECTION_BYTES
from ncen_updater.formats.tree import EntryType, Tree


def changed_files(plan: LayoutPlan, old: Tree) -> list[int]:
    """Indexes of the old files that are not in the new tree as they were; groups refer to these."""
    kept = {entry for entry in plan.entries if isinstance(entry, int)}
    return [
        index
        for index, entry in enumerate(old.entries)
        if entry.type is EntryType.FILE and index not in kept
    ]


def write_index(plan: LayoutPlan, old: Tree) -> bytes:
    """Return the byte form of a plan, not yet compressed."""
    columns = Columns()
    _Entries(columns, plan, old).write()
    changed = [(False, index) for index in changed_files(plan, old)]
    built = [(True, at) for at, e in enumerate(plan.entries) if isinstance(e, Fresh) and e.built]
    candidates = {one: at for at, one in enumerate(changed + built)}
    put_number(columns.groups, len(plan.groups))
    for group in plan.groups:
        _write_group(columns, group, candidates)
        if any(other.renaming or other.call for other in plan.groups):
            _write_way(columns.ways, group)
    return columns.content()


class _Entries:
    def __init__(self, columns: Columns, plan: LayoutPlan, old: Tree) -> None:
        self._columns, self._plan, self._old = columns, plan, old.entries
        self._steps: list[tuple[IndexStep, int]] = []
        self._cursor = self._origin = 0
        self._last = ""
        self._number: dict[int, int] = {}  # of entries that are built, in their order

    def write(self) -> None:
        for at, entry in enumerate(self._plan.entries):
            if isinstance(entry, int):
                self._drop_until(entry)
                self._run(IndexStep.KEEP)
                self._cursor += 1
                self._last = self._old[entry].path
            else:
                if entry.copy_of is None:
                    self._fresh(entry)
                else:
                    self._copy(entry, entry.copy_of)
                if entry.built:
                    self._number[at] = len(self._number)
                self._last = entry.path
        self._drop_until(len(self._old))
        put_number(self._columns.steps, len(self._steps))
        for step, count in self._steps:
            put_number(self._columns.steps, step)
            if step in (IndexStep.KEEP, IndexStep.DROP):
                put_number(self._columns.steps, count)

    def _run(self, step: IndexStep) -> None:
        if self._steps and self._steps[-1][0] is step:
            self._steps[-1] = (step, self._steps[-1][1] + 1)
        else:
            self._steps.append((step, 1))

    def _drop_until(self, index: int) -> None:
        for _ in range(self._cursor, index):
            self._run(IndexStep.DROP)
        self._cursor = max(self._cursor, index)

    def _drop_before(self, path: str) -> None:
        where = order(path)
        while self._cursor < len(self._old) and order(self._old[self._cursor].path) < where:
            self._drop_until(self._cursor + 1)

    def _copy(self, entry: Fresh, copy_of: int) -> None:
        self._drop_before(entry.path)
        first = self._plan.entries[copy_of]
        assert isinstance(first, Fresh)  # noqa: S101 - only these are built
        self._steps.append((IndexStep.COPY, 1))
        put_number(self._columns.origins, len(self._number) - 1 - self._number[copy_of])
        self._path(entry.path, first.path)
        self._mode(entry.mode, first.mode)

    def _fresh(self, entry: Fresh) -> None:
        self._drop_before(entry.path)
        if entry.built and entry.like == self._cursor and self._same_path(entry):
            self._steps.append((IndexStep.CHANGE, 1))
            put_number(self._columns.sizes, entry.size)
            self._mode(entry.mode, self._old[self._cursor].mode)
            self._cursor += 1
            return
        like = entry.origin if entry.origin is not None else entry.like
        if entry.type is EntryType.SYMLINK:
            step, usual = IndexStep.LINK, None
        elif entry.type is EntryType.DIRECTORY:
            step, usual = IndexStep.DIRECTORY, 0o755
        elif like is None:
            step, usual = IndexStep.NEW, 0o644
        else:
            step = IndexStep.RENAMED if entry.built else IndexStep.MOVED
            usual = self._old[like].mode
        self._steps.append((step, 1))
        original = None
        if like is not None:
            put_signed(self._columns.origins, like - self._origin)
            self._origin, original = like, self._old[like]
        self._path(entry.path, original.path if original else None)
        if usual is not None:
            self._mode(entry.mode, usual)
        if entry.built:
            put_number(self._columns.sizes, entry.size)
        if entry.target is not None:
            put_text(self._columns.links, entry.target)

    def _same_path(self, entry: Fresh) -> bool:
        return self._cursor < len(self._old) and self._old[self._cursor].path == entry.path

    def _mode(self, mode: int, usual: int) -> None:
        put_number(self._columns.modes, 0 if mode == usual else mode + 1)

    def _path(self, path: str, like: str | None) -> None:
        directory, _, name = path.rpartition("/")
        put_number(self._columns.depths, directory.count("/") + 1 if directory else 0)
        if like is None:
            put_text(self._columns.names, name)
            return
        other = like.rpartition("/")[2]
        if other == name:
            put_number(self._columns.names, 0)
            return
        start, end = shared(name, other)
        put_number(self._columns.names, start + 1)
        put_number(self._columns.names, end)
        put_text(self._columns.names, name[start : len(name) - end])


def shared(one: str, other: str) -> tuple[int, int]:
    """How many characters two names share at the start, and at the end beside these."""
    most = min(len(one), len(other))
    start = 0
    while start < most and one[start] == other[start]:
        start += 1
    end = 0
    while end < most - start and one[-1 - end] == other[-1 - end]:
        end += 1
    return start, end


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (how many are left out, how many are taken)."""
    runs: list[tuple[int, int]] = []
    end = 0
    for number in numbers:
        if runs and number == end:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number - end, 1))
        end = number + 1
    return runs


def _put_runs(column: bytearray, numbers: Sequence[int]) -> None:
    runs = _runs(numbers)
    put_number(column, len(runs))
    for skipped, taken in runs:
        put_number(column, skipped)
        put_number(column, taken)


def _write_group(columns: Columns, group: Group, candidates: dict[tuple[bool, int], int]) -> None:
    out = columns.groups
    put_number(out, group.files)
    _write_refs(columns, group.refs, candidates)
    _write_recipes(columns.recipes, group.recipes)
    put_number(out, group.view)
    put_number(out, group.covers)
    put_number(out, group.runs)
    for extent in (group.control, group.zeros, group.differences, group.literals):
        put_number(out, extent.packed)
        put_number(out, extent.plain)


def _write_way(out: bytearray, group: Group) -> None:
    if group.renaming is None:
        put_number(out, GroupWay.CALL if group.call else GroupWay.COVERS)
        return
    put_number(out, GroupWay.NAMES)
    put_number(out, group.renaming.matched)
    put_number(out, group.renaming.corrections.plain // CORRECTION_BYTES)
    put_number(out, group.renaming.corrections.packed)


def _write_refs(
    columns: Columns, refs: tuple[Ref, ...], candidates: dict[tuple[bool, int], int]
) -> None:
    _put_runs(columns.groups, [candidates[ref.built, ref.origin] for ref in refs])
    archives = [(at, ref.members) for at, ref in enumerate(refs) if ref.members is not None]
    put_number(columns.groups, len(archives))
    end = 0
    for at, members in archives:
        put_number(columns.groups, at - end)
        _put_runs(columns.recipes, members)
        end = at + 1


def _write_recipes(out: bytearray, recipes: tuple[Recipe, ...]) -> None:
    put_number(out, len(recipes))
    end = 0
    for recipe in recipes:
        put_number(out, recipe.target - end)
        put_number(out, recipe.source)
        put_number(out, len(recipe.ops))
        member = 0
        for op in recipe.ops:
            put_number(out, op.kind)
            put_number(out, op.count)
            if op.kind is OpKind.MEMBERS:
                put_signed(out, op.argument - member)
                member = op.argument + op.count
            elif op.kind is OpKind.DEFLATE:
                put_number(out, op.argument)
        end = recipe.target + 1
