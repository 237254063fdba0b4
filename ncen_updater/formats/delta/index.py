"""The index of a pack as bytes: how the new tree differs from the old, and where the streams are.

Both ends hold the old tree, so entries that are the same cost nothing but the length of their run.
A new name is said by what it shares with the old file that it was paired with, and only by its last
part: its directory is one of those that the entry before it is in. ``docs/delta-format.md`` has the
whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from ncen_updater.formats.delta.byte_transforms import RUN_BYTES
from ncen_updater.formats.delta.layout import (
    COVER_BYTES,
    Fresh,
    Group,
    LayoutPlan,
    Op,
    OpKind,
    PathRules,
    Recipe,
    Ref,
    Renaming,
    check_link,
    check_name,
    order,
)
from ncen_updater.formats.delta.minified_names import CORRECTION_BYTES, NAME_BYTES
from ncen_updater.formats.delta.streams import (
    Extent,
    Malformed,
    NumberReader,
    NumberTooLarge,
    OutOfRange,
    put_number,
    put_signed,
    put_text,
)
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

MAX_GROUPS = 100_000
MAX_MEMBERS = 1_000_000
MAX_OPS = 1_000_000
MAX_COVERS = 1 << 31
TEXT_BYTES = 4000
NAMES = ("steps", "modes", "depths", "origins", "names", "sizes", "links", "groups", "recipes")
WAYS = "ways"  # a further column, where groups are said in other ways


class IndexStep(IntEnum):
    """How the list of entries goes on."""

    KEEP = 0  # the next n old entries, as they are
    DROP = 1  # not the next n old entries
    CHANGE = 2  # the next old entry, a file, with other content
    DIRECTORY = 3
    LINK = 4
    MOVED = 5  # a file with the content of an old one
    RENAMED = 6  # a file with content of its own, named like an old one
    NEW = 7
    COPY = 8  # a file with the content of one before it that the pack builds


class GroupWay(IntEnum):
    """How a group is said."""

    COVERS = 0
    NAMES = 1  # covers in which names were given anew
    CALL = 2  # one frame of zstd


class Columns:
    """The parts of the index; like stands beside like, so that it compresses well."""

    def __init__(self) -> None:
        self.steps = bytearray()
        self.modes = bytearray()
        self.depths = bytearray()
        self.origins = bytearray()
        self.names = bytearray()
        self.sizes = bytearray()
        self.links = bytearray()
        self.groups = bytearray()
        self.recipes = bytearray()
        self.ways = bytearray()

    def content(self) -> bytes:
        """All of it."""
        whole = bytearray()
        for name in (*NAMES, WAYS) if self.ways else NAMES:
            column = getattr(self, name)
            put_number(whole, len(column))
            whole += column
        return bytes(whole)


def read_columns(content: bytes) -> dict[str, NumberReader]:
    """Take the index apart.

    Raises:
        Malformed: If it does not consist of its columns.
    """
    reader = NumberReader(content)
    columns = {name: NumberReader(reader.take(reader.number())) for name in NAMES}
    if reader.left:
        columns[WAYS] = NumberReader(reader.take(reader.number()))
    reader.end()
    return columns


# ---- reading ---------------------------------------------------------------------------------


def read_plan(content: bytes, old: Tree, streams_start: int, most: int) -> LayoutPlan:
    """Understand an index.

    Args:
        content: The index, unpacked.
        old: The tree that it starts from.
        streams_start: Offset in the pack of the first stream.
        most: How many entries the new tree may have.

    Raises:
        Malformed: If it is not an index.
        OutOfRange: If it is not one for this tree.
        PathRefused: If it names a path that no release may have.
        TooLarge: If it has more entries than were signed, or more of anything than any pack has.
    """
    return _PlanReader(read_columns(content), old, most).read(streams_start)


class _PlanReader:
    def __init__(self, columns: dict[str, NumberReader], old: Tree, most: int) -> None:
        self._columns, self._old, self._most = columns, old.entries, most
        self._refs_left = self._ops_left = self._members_left = 0
        self._cursor = self._origin = 0
        self._plan = LayoutPlan()
        self._rules = PathRules()
        self._last: tuple[str, bool] = ("", True)
        self._changed: list[int] = []  # old files that groups may refer to
        self._built: list[int] = []  # entries that groups build

    def read(self, streams_start: int) -> LayoutPlan:
        steps = self._columns["steps"]
        for _ in range(steps.number()):
            self._step(IndexStep(steps.number(IndexStep.COPY)), steps)
        if self._cursor != len(self._old):
            raise OutOfRange("not every old entry is spoken of")
        built = len(self._built)
        # What one number can stand for many of is counted over the whole pack.
        self._refs_left = built + len(self._changed)
        self._ops_left, self._members_left = MAX_OPS, MAX_MEMBERS
        groups, at = self._columns["groups"], streams_start
        for _ in range(groups.number(MAX_GROUPS)):
            group, at = self._group(groups, at, max(0, len(self._built) - built))
            built -= group.files
            self._plan.groups.append(group)
        if built:
            raise OutOfRange("the groups do not build the files of the tree")
        for column in self._columns.values():
            column.end()
        return self._plan

    def _step(self, step: IndexStep, steps: NumberReader) -> None:
        if step in (IndexStep.KEEP, IndexStep.DROP):
            for _ in range(steps.number(len(self._old) - self._cursor)):
                self._pass(keep=step is IndexStep.KEEP)
        elif step is IndexStep.CHANGE:
            if self._cursor >= len(self._old):
                raise OutOfRange("there are fewer old entries")
            entry = self._old_file(self._cursor)
            size = self._columns["sizes"].number()
            mode = self._mode(entry.mode)
            self._add(Fresh(entry.path, EntryType.FILE, mode, size, like=self._cursor))
            self._pass(keep=False)
        else:
            self._add(self._fresh(step))

    def _pass(self, *, keep: bool) -> None:
        entry = self._old[self._cursor]
        if keep:
            self._see(entry.path, entry.type)
            self._plan.entries.append(self._cursor)
        elif entry.type is EntryType.FILE:
            self._changed.append(self._cursor)
        self._cursor += 1

    def _add(self, entry: Fresh) -> None:
        self._see(entry.path, entry.type)
        if entry.built:
            self._built.append(len(self._plan.entries))
        self._plan.entries.append(entry)

    def _see(self, path: str, kind: EntryType) -> None:
        if len(self._plan.entries) >= self._most:
            raise NumberTooLarge(f"more than {self._most} entries")
        self._rules.see(path, is_directory=kind is EntryType.DIRECTORY)
        self._last = (path, kind is EntryType.DIRECTORY)

    def _fresh(self, step: IndexStep) -> Fresh:
        if step in (IndexStep.MOVED, IndexStep.RENAMED):
            self._origin += self._columns["origins"].signed()
            like = self._old_file(self._origin)
            path = self._path(like.path)
            mode = self._mode(like.mode)
            if step is IndexStep.MOVED:
                return Fresh(path, EntryType.FILE, mode, like.size, origin=self._origin)
            size = self._columns["sizes"].number()
            return Fresh(path, EntryType.FILE, mode, size, like=self._origin)
        if step is IndexStep.COPY:
            return self._copy()
        path = self._path(None)
        if step is IndexStep.LINK:
            target = self._columns["links"].text(TEXT_BYTES)
            check_link(path, target)
            return Fresh(path, EntryType.SYMLINK, 0o777, target=target)
        if step is IndexStep.DIRECTORY:
            return Fresh(path, EntryType.DIRECTORY, self._mode(0o755))
        return Fresh(path, EntryType.FILE, self._mode(0o644), self._columns["sizes"].number())

    def _copy(self) -> Fresh:
        back = self._columns["origins"].number()
        if not 0 <= back < len(self._built):
            raise OutOfRange("a copy of a file that is not built before it")
        copy_of = self._built[-1 - back]
        first = self._plan.entries[copy_of]
        assert isinstance(first, Fresh)  # noqa: S101 - only these are built
        path = self._path(first.path)
        mode = self._mode(first.mode)
        return Fresh(path, EntryType.FILE, mode, first.size, copy_of=copy_of)

    def _old_file(self, index: int) -> TreeEntry:
        if not 0 <= index < len(self._old) or self._old[index].type is not EntryType.FILE:
            raise OutOfRange(f"old entry {index} is no file")
        return self._old[index]

    def _mode(self, usual: int) -> int:
        said = self._columns["modes"].number(0o1000)
        return said - 1 if said else usual

    def _path(self, like: str | None) -> str:
        parts = self._last[0].split("/") if self._last[0] else []
        depth = self._columns["depths"].number(len(parts) if self._last[1] else len(parts) - 1)
        name = self._name(like.rpartition("/")[2] if like else None)
        check_name(name)
        return "/".join([*parts[:depth], name])

    def _name(self, like: str | None) -> str:
        names = self._columns["names"]
        if like is None:
            return names.text(TEXT_BYTES)
        start = names.number(len(like) + 1)
        if start == 0:
            return like
        end = names.number(len(like) - (start - 1))
        return like[: start - 1] + names.text(TEXT_BYTES) + like[len(like) - end :]

    def _group(self, groups: NumberReader, at: int, before: int) -> tuple[Group, int]:
        files = groups.number(len(self._plan.entries))
        refs = self._refs(groups, before)
        recipes = self._recipes(files, len(refs))
        view, covers, runs = groups.number(), groups.number(MAX_COVERS), groups.number(MAX_COVERS)
        extents = []
        for _ in range(4):
            packed, plain = groups.number(), groups.number()
            if (packed == 0) != (plain == 0):
                raise Malformed("an empty stream is not empty")
            extents.append(Extent(at, packed, plain))
            at += packed
        control, zeros, differences, literals = extents
        way = self._way()
        renaming = None
        if way is GroupWay.NAMES:
            renaming, at = self._renaming(at)
        group = Group(
            files, refs, recipes, view, covers, runs,
            control, zeros, differences, literals, renaming, way is GroupWay.CALL,
        )  # fmt: skip
        if group.call and (covers or literals.plain != view or not view):
            raise OutOfRange("a call is not all of its group")
        if (group.control.plain, group.zeros.plain) != (covers * COVER_BYTES, runs * RUN_BYTES):
            raise OutOfRange("the streams of a group have other lengths than its numbers")
        if not 0 <= group.differences.plain <= group.matched or (group.covered and not covers):
            raise OutOfRange("the streams of a group have other lengths than its files")
        if not 0 <= group.matched <= NAME_BYTES * group.covered:  # no name becomes nothing
            raise OutOfRange("the covers of a group have other lengths than its files")
        # Thousands of millions of them pack to nothing.
        if covers > group.matched or runs > group.matched - group.differences.plain:
            raise OutOfRange("covers or runs of no bytes")
        return group, at

    def _way(self) -> GroupWay:
        column = self._columns.get(WAYS)
        return GroupWay(column.number(GroupWay.CALL)) if column else GroupWay.COVERS

    def _renaming(self, at: int) -> tuple[Renaming, int]:
        column = self._columns[WAYS]
        matched = column.number()
        count, packed = column.number(matched), column.number()
        if (packed == 0) != (count == 0):
            raise Malformed("an empty stream is not empty")
        return Renaming(matched, Extent(at, packed, count * CORRECTION_BYTES)), at + packed

    def _refs(self, groups: NumberReader, before: int) -> tuple[Ref, ...]:
        """Old files that are gone or changed and, after them, files that were built before."""
        chosen: list[Ref] = []
        at, most = 0, len(self._changed) + min(before, len(self._built))
        for _ in range(groups.number(most)):
            at += groups.number(most - at)
            count = groups.number(most - at)
            self._refs_left -= count
            if self._refs_left < 0:
                raise NumberTooLarge("more references than files")
            chosen += map(self._ref, range(at, at + count))
            at += count
        members: dict[int, tuple[int, ...]] = {}
        at = 0
        for _ in range(groups.number(len(chosen))):
            at += groups.number(len(chosen))
            members[at] = self._members()
            at += 1
        if members and max(members) >= len(chosen):
            raise OutOfRange("there are fewer references")
        for number, seen in members.items():
            if chosen[number].built:
                raise OutOfRange("members of an archive that is not an old file")
            chosen[number] = Ref(chosen[number].origin, seen)
        return tuple(chosen)

    def _ref(self, number: int) -> Ref:
        if number < len(self._changed):
            return Ref(self._changed[number])
        return Ref(self._built[number - len(self._changed)], built=True)

    def _members(self) -> tuple[int, ...]:
        recipes = self._columns["recipes"]
        chosen: list[int] = []
        at = 0
        for _ in range(recipes.number(MAX_MEMBERS)):
            at += recipes.number(MAX_MEMBERS)
            count = recipes.number(MAX_MEMBERS)
            self._members_left -= count
            if at + count > MAX_MEMBERS or self._members_left < 0:
                raise NumberTooLarge("too many members of archives")
            chosen += range(at, at + count)
            at += count
        return tuple(chosen)

    def _recipes(self, files: int, refs: int) -> tuple[Recipe, ...]:
        recipes = self._columns["recipes"]
        found: list[Recipe] = []
        at = 0
        for _ in range(recipes.number(files)):
            at += recipes.number(files)
            if at >= files:
                raise OutOfRange("there are fewer files in the group")
            if not refs:
                raise OutOfRange("an archive is rebuilt from nothing")
            found.append(Recipe(at, recipes.number(refs - 1), self._ops(recipes)))
            at += 1
        return tuple(found)

    def _ops(self, recipes: NumberReader) -> tuple[Op, ...]:
        ops = []
        member = 0
        count_of_ops = recipes.number(MAX_OPS)
        self._ops_left -= count_of_ops
        if self._ops_left < 0:
            raise NumberTooLarge("archives of too many pieces")
        for _ in range(count_of_ops):
            kind = OpKind(recipes.number(OpKind.DEFLATE))
            count = recipes.number()
            argument = 0
            if kind is OpKind.MEMBERS:
                member += recipes.signed()
                argument = member
                member += count
                if not 0 <= argument <= member <= MAX_MEMBERS:
                    raise OutOfRange("an archive has fewer members")
            elif kind is OpKind.DEFLATE:
                argument = recipes.number(9)
            ops.append(Op(kind, count, argument))
        return tuple(ops)


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
