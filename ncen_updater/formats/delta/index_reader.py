"""The index of a pack: the differences between the old and the new tree, and the streams' offsets.

Publisher and agent both have the old tree, so equal entries cost only the length of their run. A
new name is encoded as its difference from the paired old file's name. Only the last part of its
path is encoded: the directory is one of those that contain the previous entry. The format is
described in ``docs/reference/delta-format.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from itertools import chain

from ncen_updater.common.i18n import N_
from ncen_updater.formats.delta.byte_transforms import CORRECTION_BYTES, NAME_BYTES, RUN_BYTES
from ncen_updater.formats.delta.lzma_streams import (
    ColumnReader,
    Extent,
    MalformedPackError,
    put_number,
    put_signed,
    put_text,
)
from ncen_updater.formats.delta.pack_plan import (
    COVER_MEMORY_BYTES,
    ArchiveOperation,
    ArchiveOperationKind,
    ArchiveRecipe,
    FileGroup,
    FileReference,
    MinifiedNames,
    NewEntry,
    PackPlan,
    split_path,
)
from ncen_updater.formats.delta.zip_archive import MAX_MEMBERS
from ncen_updater.formats.tree import EntryType, PathRules, Tree, TreeEntry

MAX_GROUPS = 100_000
MAX_OPS = 1_000_000
MAX_COVERS = 1 << 31
TEXT_BYTES = 4000
# an additional column, if a group has another encoding than covers
GROUP_ENCODINGS_COLUMN = "encodings"


class IndexStep(IntEnum):
    """A step in the list of entries."""

    KEEP = 0  # take the next n old entries unchanged
    DROP = 1  # skip the next n old entries
    CHANGE = 2  # the next old entry, a file, with other content
    DIRECTORY = 3
    LINK = 4
    MOVED = 5  # a file with the content of an old file
    RENAMED = 6  # a file with new content and a name similar to an old file's
    NEW = 7
    COPY = 8  # a file with the content of an earlier file that the pack builds


class GroupEncoding(IntEnum):
    """Encoding of a group."""

    COVERS = 0
    MINIFIED_NAMES = 1  # covers with renamed short names
    SINGLE_FRAME = 2  # one zstd frame


@dataclass
class IndexColumns:
    """The columns of the index: values of one kind together, so that they compress well."""

    steps: bytearray = field(default_factory=bytearray)
    modes: bytearray = field(default_factory=bytearray)
    depths: bytearray = field(default_factory=bytearray)
    origins: bytearray = field(default_factory=bytearray)
    names: bytearray = field(default_factory=bytearray)
    sizes: bytearray = field(default_factory=bytearray)
    links: bytearray = field(default_factory=bytearray)
    groups: bytearray = field(default_factory=bytearray)
    recipes: bytearray = field(default_factory=bytearray)
    encodings: bytearray = field(default_factory=bytearray)

    def to_bytes(self) -> bytes:
        """Return the encoded index."""
        whole = bytearray()
        for name in (*COLUMN_NAMES, GROUP_ENCODINGS_COLUMN) if self.encodings else COLUMN_NAMES:
            column = getattr(self, name)
            put_number(whole, len(column))
            whole += column
        return bytes(whole)


COLUMN_NAMES = tuple(
    column.name for column in fields(IndexColumns) if column.name != GROUP_ENCODINGS_COLUMN
)


def split_columns(content: bytes) -> dict[str, ColumnReader]:
    """Split the index into its columns.

    Raises:
        MalformedPackError: If it does not consist of its columns.
    """
    reader = ColumnReader(content)
    columns = {name: ColumnReader(reader.read_bytes(reader.read_number())) for name in COLUMN_NAMES}
    if reader.remaining_bytes:
        columns[GROUP_ENCODINGS_COLUMN] = ColumnReader(reader.read_bytes(reader.read_number()))
    reader.check_exhausted()
    return columns


# ---- reading ---------------------------------------------------------------------------------


def decode_plan(content: bytes, old: Tree, streams_start: int, most: int) -> PackPlan:
    """Decode an index.

    Args:
        content: The decompressed index.
        old: The old tree.
        streams_start: Offset of the first stream in the pack.
        most: Maximum number of entries of the new tree.

    Raises:
        MalformedPackError: If it is malformed, does not fit the old tree, has a path that a release
            may not have, or exceeds a limit.
    """
    return _PlanReader(split_columns(content), old, most).read(streams_start)


class _PlanReader:
    def __init__(self, columns: dict[str, ColumnReader], old: Tree, most: int) -> None:
        self._columns, self._old, self._most = columns, old.entries, most
        self._refs_left = self._ops_left = self._members_left = 0
        self._cursor = self._origin = 0
        self._plan = PackPlan()
        self._rules = PathRules()
        self._last: tuple[str, bool] = ("", True)
        self._changed: list[int] = []  # old files that groups may refer to
        self._built: list[int] = []  # entries that groups build

    def read(self, streams_start: int) -> PackPlan:
        steps = self._columns["steps"]
        for _ in range(steps.read_number()):
            self._read_step(IndexStep(steps.read_number(IndexStep.COPY)), steps)
        if self._cursor != len(self._old):
            raise MalformedPackError("invalid reference")
        built = len(self._built)
        # A single number can stand for many of these, so they are counted over the whole pack.
        self._refs_left = built + len(self._changed)
        self._ops_left, self._members_left = MAX_OPS, MAX_MEMBERS
        groups, at = self._columns["groups"], streams_start
        for _ in range(groups.read_number(MAX_GROUPS)):
            group, at = self._read_group(groups, at, max(0, len(self._built) - built))
            built -= group.files
            self._plan.groups.append(group)
        if built:
            raise MalformedPackError("invalid reference")
        for column in self._columns.values():
            column.check_exhausted()
        return self._plan

    def _read_step(self, step: IndexStep, steps: ColumnReader) -> None:
        if step in (IndexStep.KEEP, IndexStep.DROP):
            for _ in range(steps.read_number(len(self._old) - self._cursor)):
                self._pass_old_entry(keep=step is IndexStep.KEEP)
        elif step is IndexStep.CHANGE:
            entry = self._old_file(self._cursor)
            size = self._columns["sizes"].read_number()
            mode = self._read_mode(entry.mode)
            self._add_entry(
                NewEntry(entry.path, EntryType.FILE, mode, size, similar_to=self._cursor)
            )
            self._pass_old_entry(keep=False)
        else:
            self._add_entry(self._read_new_entry(step))

    def _pass_old_entry(self, *, keep: bool) -> None:
        entry = self._old[self._cursor]
        if keep:
            self._check_path(entry)
            self._plan.entries.append(self._cursor)
        elif entry.type is EntryType.FILE:
            self._changed.append(self._cursor)
        self._cursor += 1

    def _add_entry(self, entry: NewEntry) -> None:
        self._check_path(entry)
        if entry.is_built:
            self._built.append(len(self._plan.entries))
        self._plan.entries.append(entry)

    def _check_path(self, entry: NewEntry | TreeEntry) -> None:
        if len(self._plan.entries) >= self._most:
            raise MalformedPackError("too many entries")
        problem = self._rules.find_problem(entry.path, entry.type, entry.target)
        if problem:
            raise MalformedPackError(N_("{name}: {text}"), name=repr(entry.path), text=problem)
        self._last = (entry.path, entry.type is EntryType.DIRECTORY)

    def _read_new_entry(self, step: IndexStep) -> NewEntry:
        if step in (IndexStep.MOVED, IndexStep.RENAMED):
            self._origin += self._columns["origins"].read_signed()
            like = self._old_file(self._origin)
            path = self._read_path(like.path)
            mode = self._read_mode(like.mode)
            if step is IndexStep.MOVED:
                return NewEntry(path, EntryType.FILE, mode, like.size, origin=self._origin)
            size = self._columns["sizes"].read_number()
            return NewEntry(path, EntryType.FILE, mode, size, similar_to=self._origin)
        if step is IndexStep.COPY:
            return self._read_copy()
        path = self._read_path(None)
        if step is IndexStep.LINK:
            target = self._columns["links"].read_text(TEXT_BYTES)
            return NewEntry(path, EntryType.SYMLINK, 0o777, target=target)
        if step is IndexStep.DIRECTORY:
            return NewEntry(path, EntryType.DIRECTORY, self._read_mode(0o755))
        return NewEntry(
            path, EntryType.FILE, self._read_mode(0o644), self._columns["sizes"].read_number()
        )

    def _read_copy(self) -> NewEntry:
        back = self._columns["origins"].read_number()
        if not 0 <= back < len(self._built):
            raise MalformedPackError("invalid reference")
        copy_of = self._built[-1 - back]
        first = self._plan.entries[copy_of]
        assert isinstance(first, NewEntry)  # noqa: S101 - only these are built
        path = self._read_path(first.path)
        mode = self._read_mode(first.mode)
        return NewEntry(path, EntryType.FILE, mode, first.size, copy_of=copy_of)

    def _old_file(self, index: int) -> TreeEntry:
        if not 0 <= index < len(self._old) or self._old[index].type is not EntryType.FILE:
            raise MalformedPackError("invalid reference")
        return self._old[index]

    def _read_mode(self, usual: int) -> int:
        value = self._columns["modes"].read_number(0o1000)
        return value - 1 if value else usual

    def _read_path(self, like: str | None) -> str:
        parts = self._last[0].split("/") if self._last[0] else []
        depth = self._columns["depths"].read_number(len(parts) if self._last[1] else len(parts) - 1)
        name = self._read_name(like.rpartition("/")[2] if like else None)
        return "/".join([*parts[:depth], name])

    def _read_name(self, like: str | None) -> str:
        names = self._columns["names"]
        if like is None:
            return names.read_text(TEXT_BYTES)
        start = names.read_number(len(like) + 1)
        if start == 0:
            return like
        end = names.read_number(len(like) - (start - 1))
        return like[: start - 1] + names.read_text(TEXT_BYTES) + like[len(like) - end :]

    def _read_group(self, groups: ColumnReader, at: int, before: int) -> tuple[FileGroup, int]:
        files = groups.read_number(len(self._plan.entries))
        refs = self._read_references(groups, before)
        recipes = self._read_recipes(files, len(refs))
        view, covers, runs = (
            groups.read_number(),
            groups.read_number(MAX_COVERS),
            groups.read_number(MAX_COVERS),
        )
        extents = []
        for _ in range(4):
            packed, plain = groups.read_number(), groups.read_number()
            if (packed == 0) != (plain == 0):
                raise MalformedPackError("length mismatch")
            extents.append(Extent(at, packed, plain))
            at += packed
        control, zeros, differences, literals = extents
        encoding = self._read_encoding()
        renaming = None
        if encoding is GroupEncoding.MINIFIED_NAMES:
            renaming, at = self._read_minified_names(at)
        group = FileGroup(
            covers, runs, control, zeros, differences, literals, renaming,
            encoding is GroupEncoding.SINGLE_FRAME,
            files=files, references=refs, recipes=recipes, view=view,
        )  # fmt: skip
        if not _has_consistent_lengths(group):
            raise MalformedPackError("length mismatch")
        return group, at

    def _read_encoding(self) -> GroupEncoding:
        column = self._columns.get(GROUP_ENCODINGS_COLUMN)
        return (
            GroupEncoding(column.read_number(GroupEncoding.SINGLE_FRAME))
            if column
            else GroupEncoding.COVERS
        )

    def _read_minified_names(self, at: int) -> tuple[MinifiedNames, int]:
        column = self._columns[GROUP_ENCODINGS_COLUMN]
        matched = column.read_number()
        count, packed = column.read_number(matched), column.read_number()
        if (packed == 0) != (count == 0):
            raise MalformedPackError("length mismatch")
        return MinifiedNames(matched, Extent(at, packed, count * CORRECTION_BYTES)), at + packed

    def _read_references(self, groups: ColumnReader, before: int) -> tuple[FileReference, ...]:
        """Return the group's references: dropped or changed old files, then earlier built files."""
        chosen: list[FileReference] = []
        at, most = 0, len(self._changed) + min(before, len(self._built))
        for _ in range(groups.read_number(most)):
            at += groups.read_number(most - at)
            count = groups.read_number(most - at)
            self._refs_left -= count
            if self._refs_left < 0:
                raise MalformedPackError("invalid reference")
            chosen += map(self._read_reference, range(at, at + count))
            at += count
        members: dict[int, tuple[int, ...]] = {}
        at = 0
        for _ in range(groups.read_number(len(chosen))):
            at += groups.read_number(len(chosen))
            members[at] = self._read_members()
            at += 1
        if members and max(members) >= len(chosen):
            raise MalformedPackError("invalid reference")
        for number, seen in members.items():
            if chosen[number].is_built:
                raise MalformedPackError("invalid reference")
            chosen[number] = FileReference(chosen[number].origin, seen)
        return tuple(chosen)

    def _read_reference(self, number: int) -> FileReference:
        if number < len(self._changed):
            return FileReference(self._changed[number])
        return FileReference(self._built[number - len(self._changed)], is_built=True)

    def _read_members(self) -> tuple[int, ...]:
        recipes = self._columns["recipes"]
        chosen: list[int] = []
        at = 0
        for _ in range(recipes.read_number(MAX_MEMBERS)):
            at += recipes.read_number(MAX_MEMBERS)
            count = recipes.read_number(MAX_MEMBERS)
            self._members_left -= count
            if at + count > MAX_MEMBERS or self._members_left < 0:
                raise MalformedPackError("too many entries")
            chosen += range(at, at + count)
            at += count
        return tuple(chosen)

    def _read_recipes(self, files: int, refs: int) -> tuple[ArchiveRecipe, ...]:
        recipes = self._columns["recipes"]
        found: list[ArchiveRecipe] = []
        at = 0
        for _ in range(recipes.read_number(files)):
            at += recipes.read_number(files)
            if at >= files or not refs:
                raise MalformedPackError("invalid reference")
            found.append(
                ArchiveRecipe(at, recipes.read_number(refs - 1), self._read_operations(recipes))
            )
            at += 1
        return tuple(found)

    def _read_operations(self, recipes: ColumnReader) -> tuple[ArchiveOperation, ...]:
        ops = []
        member = 0
        count_of_ops = recipes.read_number(MAX_OPS)
        self._ops_left -= count_of_ops
        if self._ops_left < 0:
            raise MalformedPackError("too many entries")
        for _ in range(count_of_ops):
            kind = ArchiveOperationKind(recipes.read_number(ArchiveOperationKind.DEFLATE))
            count = recipes.read_number()
            argument = 0
            if kind is ArchiveOperationKind.MEMBERS:
                member += recipes.read_signed()
                argument = member
                member += count
                if not 0 <= argument <= member <= MAX_MEMBERS:
                    raise MalformedPackError("invalid reference")
            elif kind is ArchiveOperationKind.DEFLATE:
                argument = recipes.read_number(9)
            ops.append(ArchiveOperation(kind, count, argument))
        return tuple(ops)


def _has_consistent_lengths(group: FileGroup) -> bool:
    differences, matched = group.differences.plain_bytes, group.matched
    if group.single_frame and (group.covers or group.covered or not group.view):
        return False
    return (
        group.control.plain_bytes == group.covers * COVER_MEMORY_BYTES
        and group.zeros.plain_bytes == group.runs * RUN_BYTES
        and (group.covers > 0 or not group.covered)
        and 0 <= matched <= NAME_BYTES * group.covered  # a renamed name is never empty
        # Thousands of millions of covers or runs would compress to almost nothing.
        and group.covers <= matched
        and group.runs <= matched - differences
    )


def list_changed_files(plan: PackPlan, old: Tree) -> list[int]:
    """Return the indexes of old files that the new tree does not keep; groups may refer to them."""
    retained = {entry for entry in plan.entries if isinstance(entry, int)}
    return [
        index
        for index, entry in enumerate(old.entries)
        if entry.type is EntryType.FILE and index not in retained
    ]


def encode_index(plan: PackPlan, old: Tree) -> bytes:
    """Return the encoded index, not yet compressed."""
    columns = IndexColumns()
    _EntryWriter(columns, plan, old).write_entries()
    changed = [(False, index) for index in list_changed_files(plan, old)]
    built = [
        (True, at) for at, e in enumerate(plan.entries) if isinstance(e, NewEntry) and e.is_built
    ]
    candidates = {one: at for at, one in enumerate(changed + built)}
    put_number(columns.groups, len(plan.groups))
    encoded = any(group.minified_names or group.single_frame for group in plan.groups)
    for group in plan.groups:
        _write_group(columns, group, candidates)
        if encoded:
            _write_encoding(columns.encodings, group)
    return columns.to_bytes()


class _EntryWriter:
    def __init__(self, columns: IndexColumns, plan: PackPlan, old: Tree) -> None:
        self._columns, self._plan, self._old = columns, plan, old.entries
        self._steps: list[tuple[IndexStep, int]] = []
        self._cursor = self._origin = 0
        self._last = ""
        self._number: dict[int, int] = {}  # consecutive number of each built entry

    def write_entries(self) -> None:
        for at, entry in enumerate(self._plan.entries):
            if isinstance(entry, int):
                self._drop_until(entry)
                self._run(IndexStep.KEEP)
                self._cursor += 1
                self._last = self._old[entry].path
            else:
                if entry.copy_of is None:
                    self._write_new_entry(entry)
                else:
                    self._write_copy(entry, entry.copy_of)
                if entry.is_built:
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
        where = split_path(path)
        while self._cursor < len(self._old) and split_path(self._old[self._cursor].path) < where:
            self._drop_until(self._cursor + 1)

    def _write_copy(self, entry: NewEntry, copy_of: int) -> None:
        self._drop_before(entry.path)
        first = self._plan.entries[copy_of]
        assert isinstance(first, NewEntry)  # noqa: S101 - only these are built
        self._steps.append((IndexStep.COPY, 1))
        put_number(self._columns.origins, len(self._number) - 1 - self._number[copy_of])
        self._write_path(entry.path, first.path)
        self._write_mode(entry.mode, first.mode)

    def _write_new_entry(self, entry: NewEntry) -> None:
        self._drop_before(entry.path)
        if entry.is_built and entry.similar_to == self._cursor and self._is_same_path(entry):
            self._steps.append((IndexStep.CHANGE, 1))
            put_number(self._columns.sizes, entry.size)
            self._write_mode(entry.mode, self._old[self._cursor].mode)
            self._cursor += 1
            return
        like = entry.origin if entry.origin is not None else entry.similar_to
        if entry.type is EntryType.SYMLINK:
            step, usual = IndexStep.LINK, None
        elif entry.type is EntryType.DIRECTORY:
            step, usual = IndexStep.DIRECTORY, 0o755
        elif like is None:
            step, usual = IndexStep.NEW, 0o644
        else:
            step = IndexStep.RENAMED if entry.is_built else IndexStep.MOVED
            usual = self._old[like].mode
        self._steps.append((step, 1))
        original = None
        if like is not None:
            put_signed(self._columns.origins, like - self._origin)
            self._origin, original = like, self._old[like]
        self._write_path(entry.path, original.path if original else None)
        if usual is not None:
            self._write_mode(entry.mode, usual)
        if entry.is_built:
            put_number(self._columns.sizes, entry.size)
        if entry.target is not None:
            put_text(self._columns.links, entry.target)

    def _is_same_path(self, entry: NewEntry) -> bool:
        return self._cursor < len(self._old) and self._old[self._cursor].path == entry.path

    def _write_mode(self, mode: int, usual: int) -> None:
        put_number(self._columns.modes, 0 if mode == usual else mode + 1)

    def _write_path(self, path: str, like: str | None) -> None:
        directory, _, name = path.rpartition("/")
        put_number(self._columns.depths, directory.count("/") + 1 if directory else 0)
        if like is None:
            put_text(self._columns.names, name)
            return
        other = like.rpartition("/")[2]
        if other == name:
            put_number(self._columns.names, 0)
            return
        start, end = count_shared_characters(name, other)
        put_number(self._columns.names, start + 1)
        put_number(self._columns.names, end)
        put_text(self._columns.names, name[start : len(name) - end])


def count_shared_characters(one: str, other: str) -> tuple[int, int]:
    """Count the characters that two names share at the start, and at the end after these."""
    most = min(len(one), len(other))
    start = 0
    while start < most and one[start] == other[start]:
        start += 1
    end = 0
    while end < most - start and one[-1 - end] == other[-1 - end]:
        end += 1
    return start, end


def _put_runs(column: bytearray, numbers: Sequence[int]) -> None:
    """Append ascending numbers as runs: numbers skipped, numbers taken."""
    runs: list[list[int]] = []
    end = 0
    for number in numbers:
        if runs and number == end:
            runs[-1][1] += 1
        else:
            runs.append([number - end, 1])
        end = number + 1
    put_number(column, len(runs))
    for value in chain.from_iterable(runs):
        put_number(column, value)


def _write_group(
    columns: IndexColumns, group: FileGroup, candidates: dict[tuple[bool, int], int]
) -> None:
    out = columns.groups
    put_number(out, group.files)
    _write_refs(columns, group.references, candidates)
    _write_recipes(columns.recipes, group.recipes)
    put_number(out, group.view)
    put_number(out, group.covers)
    put_number(out, group.runs)
    for extent in (group.control, group.zeros, group.differences, group.literals):
        put_number(out, extent.packed_bytes)
        put_number(out, extent.plain_bytes)


def _write_encoding(out: bytearray, group: FileGroup) -> None:
    if group.minified_names is None:
        put_number(out, GroupEncoding.SINGLE_FRAME if group.single_frame else GroupEncoding.COVERS)
        return
    put_number(out, GroupEncoding.MINIFIED_NAMES)
    put_number(out, group.minified_names.matched)
    put_number(out, group.minified_names.corrections.plain_bytes // CORRECTION_BYTES)
    put_number(out, group.minified_names.corrections.packed_bytes)


def _write_refs(
    columns: IndexColumns, refs: tuple[FileReference, ...], candidates: dict[tuple[bool, int], int]
) -> None:
    _put_runs(columns.groups, [candidates[ref.is_built, ref.origin] for ref in refs])
    archives = [(at, ref.members) for at, ref in enumerate(refs) if ref.members is not None]
    put_number(columns.groups, len(archives))
    end = 0
    for at, members in archives:
        put_number(columns.groups, at - end)
        _put_runs(columns.recipes, members)
        end = at + 1


def _write_recipes(out: bytearray, recipes: tuple[ArchiveRecipe, ...]) -> None:
    put_number(out, len(recipes))
    end = 0
    for recipe in recipes:
        put_number(out, recipe.target - end)
        put_number(out, recipe.source)
        put_number(out, len(recipe.operations))
        member = 0
        for op in recipe.operations:
            put_number(out, op.kind)
            put_number(out, op.count)
            if op.kind is ArchiveOperationKind.MEMBERS:
                put_signed(out, op.argument - member)
                member = op.argument + op.count
            elif op.kind is ArchiveOperationKind.DEFLATE:
                put_number(out, op.argument)
        end = recipe.target + 1
