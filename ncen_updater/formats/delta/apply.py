"""Build the tree of a release from the slot in use and a pack.

Nothing of the pack is believed: its index is checked whole before the first byte is written, every
old file is hashed before it is used, every stream is read within what was said of it. The digests
of the tree that is returned were computed from the bytes that were written; it is for the caller to
compare its digest with the signed one.

An unchanged file is hashed first, then shared if that is safe, or copied. A hard link is one file
with two names: what is written through one is in both slots. So one is made only of a regular file
that nobody may write to and that is root's: no service that runs as another user can then give
itself the right to. See ``docs/decisions`` on links between slots.

An archive is put together again: its frame and its changed members come from the streams of the
pack, its other members from the old archive, compressed as they were.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ncen_updater.common.bounded_io import NotReadable, open_file
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    DELTA_DAMAGED,
    DELTA_FOR_ANOTHER_BASE,
    DELTA_OVER_LIMIT,
    DELTA_PATH_REFUSED,
    DELTA_RANGE_REFUSED,
    DELTA_UNSUPPORTED,
    OLD_FILE_ALTERED,
)
from ncen_updater.common.progress import Progress
from ncen_updater.formats.delta.codec import View
from ncen_updater.formats.delta.index import read_plan
from ncen_updater.formats.delta.layout import (
    Fresh,
    Group,
    LayoutPlan,
    Op,
    OpKind,
    PathRefused,
    Recipe,
    check_end,
    read_header,
    read_index,
)
from ncen_updater.formats.delta.model import (
    DeltaError,
    DeltaLimits,
    Linking,
    capabilities,
    deflate_name,
    deflated,
)
from ncen_updater.formats.delta.old_slot import GroupReference, Origin
from ncen_updater.formats.delta.streams import Ahead, Malformed, NumberTooLarge, OutOfRange
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

FICLONE = 0x40049409  # linux/fs.h
WRITE_BITS = 0o222
ROOT = 0
# What a file system says that cannot share blocks, or not between these two files.
NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
NO_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)


def may_link(info: os.stat_result, mode: int, user: int, linking: Linking) -> bool:
    """Whether nothing can write through a second name of a file; pure.

    Args:
        info: The file, as it is.
        mode: What its mode will be in the new slot, before it is sealed.
        user: The agent's own user.
        linking: What the site allows.
    """
    owners = {Linking.SAFE: {ROOT}, Linking.SEALED: {ROOT, user}, Linking.COPY: set()}[linking]
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid in owners
        and stat.S_IMODE(info.st_mode) == mode & ~WRITE_BITS
    )


class Sharing:
    """Brings old files into a new slot.

    Args:
        origin: The old slot.
        below: The new one.
        linking: What the site allows.
    """

    def __init__(self, origin: Origin, below: DirectoryHandle, linking: Linking) -> None:
        self._origin, self._below, self._linking = origin, below, linking
        self._clones = linking is not Linking.COPY

    def take_over(self, index: int, path: str, mode: int) -> None:
        """Bring an old file into the new slot under its path there.

        Raises:
            OldFileAltered: If the old file is not what its record says.
            OSError: If the disk fails.
        """
        source = self._origin.open(index)
        try:
            if self._clones and self._cloned(index, source, path, mode):
                return
            if may_link(os.fstat(source), mode, os.geteuid(), self._linking):
                self._origin.content(index, source)
                if self._linked(index, source, path):
                    return
            with os.fdopen(self._below.create(path), "wb") as stream:
                self._origin.content(index, source, stream.write)
                os.fchmod(stream.fileno(), mode)
        finally:
            os.close(source)

    def _cloned(self, index: int, source: int, path: str, mode: int) -> bool:
        """Share the blocks; a file system that once refused is not asked again."""
        target = self._below.create(path)
        try:
            fcntl.ioctl(target, FICLONE, source)
            self._origin.content(index, target)
            os.fchmod(target, mode)
        except OSError as error:
            if error.errno not in NO_CLONE:
                raise
            self._clones = False
            self._below.remove(path)
            return False
        finally:
            os.close(target)
        return True

    def _linked(self, index: int, source: int, path: str) -> bool:
        """Link the very file that was hashed."""
        old = self._origin.entry(index).path
        try:
            made = self._below.hard_link(path, self._origin.below, old)
        except OSError as error:
            if error.errno in NO_LINK:
                return False
            raise
        if not os.path.samestat(made, os.fstat(source)):
            self._below.remove(path)
            raise DeltaError(OLD_FILE_ALTERED, path=old, detail="replaced while it was read")
        return True


def rebuilt(view: View, recipe: Recipe, reference: GroupReference) -> Iterator[bytes]:
    """Yield the bytes of an archive.

    Raises:
        OutOfRange: If the old archive has not the members that the recipe takes.
    """
    for op in recipe.ops:
        if op.kind is OpKind.PLAIN:
            yield from view.pieces(op.count)
        elif op.kind is OpKind.DEFLATE:
            packer = deflated(op.argument)
            for piece in view.pieces(op.count):
                yield packer.compress(piece)
            yield packer.flush()
        else:
            yield from _members(view, op, recipe.source, reference)


def _members(view: View, op: Op, source: int, reference: GroupReference) -> Iterator[bytes]:
    """Members in a row; what stood between them in the old archive comes from the stream."""
    table = reference.table(source)
    if op.argument + op.count > len(table):
        raise OutOfRange("the old archive has fewer members")
    ahead = Ahead(lambda: reference.descriptor(source))
    for index in range(op.argument, op.argument + op.count):
        if index > op.argument:
            yield from view.pieces(table.gap(index)[1])
        member = table[index]
        at = member.start
        while at < member.end:
            piece = ahead.read(at, member.end - at)
            if not piece:
                raise OutOfRange("the old archive is cut off")
            at += len(piece)
            yield piece


PIECE = 256 << 10
TELL_BYTES = 8 << 20


def apply_delta(
    pack: Path,
    old: Path,
    old_tree: Tree,
    place: Path,
    limits: DeltaLimits,
    progress: Progress,
    linking: Linking = Linking.SAFE,
) -> Tree:
    """Fill an empty directory with the new release.

    Args:
        pack: The pack; its length and digest were verified.
        old: The slot that it starts from.
        old_tree: The tree of that slot, from its record.
        place: An empty directory.
        limits: What was signed about the pack.
        progress: Told the bytes of the new release that are there.
        linking: How unchanged files come over.

    Returns:
        The tree that was written.

    Raises:
        DeltaDamaged: If the pack is not whole.
        DeltaForAnotherBase: If it starts from, or leads to, another tree.
        DeltaPathRefused: If it names a path that no release may have.
        DeltaOverLimit: If it takes more than was signed.
        DeltaRangeRefused: If its parts do not add up.
        DeltaUnsupported: If this machine cannot do what it needs.
        OldFileAltered: If a file of the old slot is not as its record says.
        SpaceShort: If the disk has no room for the files that are built and the scratch.
        OSError: If the disk fails.
    """
    missing = sorted(set(limits.needs) - capabilities())
    if missing:
        raise DeltaError(DELTA_UNSUPPORTED, pack=pack.name, needs=", ".join(missing))
    try:
        # It lies where another user may have put something else since it was verified.
        stream = open_file(pack)
    except NotReadable as error:
        raise DeltaError(DELTA_DAMAGED, pack=pack.name, detail=str(error)) from error
    with stream, _told(pack):
        descriptor = stream.fileno()
        plan = _understood(descriptor, pack, old_tree, limits)
        with closing(Origin(old, old_tree)) as origin, closing(DirectoryHandle(place)) as below:
            return _Builder(descriptor, plan, origin, below, place, linking, progress).build()


@contextmanager
def _told(pack: Path) -> Iterator[None]:
    try:
        yield
    except PathRefused as error:
        raise DeltaError(DELTA_PATH_REFUSED, pack=pack.name, detail=str(error)) from error
    except NumberTooLarge as error:
        raise DeltaError(DELTA_OVER_LIMIT, pack=pack.name, detail=str(error)) from error
    except OutOfRange as error:
        raise DeltaError(DELTA_RANGE_REFUSED, pack=pack.name, detail=str(error)) from error
    except (Malformed, UnicodeDecodeError) as error:
        raise DeltaError(DELTA_DAMAGED, pack=pack.name, detail=str(error)) from error


def _understood(descriptor: int, pack: Path, old: Tree, limits: DeltaLimits) -> LayoutPlan:
    """Read and check everything that can be checked before anything is written."""
    header = read_header(descriptor)
    if (header.from_tree, header.to_tree) != (limits.from_tree, limits.to_tree):
        raise DeltaError(DELTA_FOR_ANOTHER_BASE, pack=pack.name)
    if old.digest() != limits.from_tree:
        raise DeltaError(
            DELTA_FOR_ANOTHER_BASE, pack=pack.name, detail="the record of the slot differs"
        )
    index = read_index(descriptor, header)
    plan = read_plan(index, old, header.streams_start, limits.out_files)
    check_end(descriptor, header, plan)
    total = sum(old.entries[e].size if isinstance(e, int) else e.size for e in plan.entries)
    for name, found, most in (
        ("bytes", total, limits.out_bytes),
        ("bytes of memory", plan.memory_bytes, limits.max_memory_bytes),
    ):
        if found > most:
            raise NumberTooLarge(f"{found} {name}, {most} were signed")
    levels = {op.argument for g in plan.groups for r in g.recipes for op in r.ops
              if op.kind is OpKind.DEFLATE}  # fmt: skip
    unsigned = {*map(deflate_name, levels), *plan.needs} - set(limits.needs)
    if unsigned:
        raise NumberTooLarge(f"{', '.join(sorted(unsigned))}: was not signed as needed")
    return plan


class _Builder:
    def __init__(
        self,
        pack: int,
        plan: LayoutPlan,
        origin: Origin,
        below: DirectoryHandle,
        place: Path,
        linking: Linking,
        progress: Progress,
    ) -> None:
        self._pack, self._plan, self._origin, self._below = pack, plan, origin, below
        self._place, self._progress = place, progress
        self._linking = linking
        self._sharing = Sharing(origin, below, linking)
        self._digests: dict[int, str] = {}
        self._built = [at for at, e in enumerate(plan.entries) if isinstance(e, Fresh) and e.built]
        # Bytes that are still to be built.
        self._left = sum(e.size for e in plan.entries if isinstance(e, Fresh) and e.built)
        self._done = self._told = 0
        self._total = sum(
            origin.entry(e).size if isinstance(e, int) else e.size for e in plan.entries
        )

    def build(self) -> Tree:
        """Write everything; directories get their permissions and links are made at the end."""
        copies = [
            e.size for e in self._plan.entries if isinstance(e, Fresh) and e.copy_of is not None
        ]
        require_space(self._place, self._left + sum(copies))
        entries = self._plan.entries
        for entry in entries:
            if self._type(entry) is EntryType.DIRECTORY:
                self._below.make(self._path(entry))
        for entry in entries:
            self._unchanged(entry)
        start = 0
        for group in self._plan.groups:
            self._group(group, self._built[start : start + group.files])
            start += group.files
        tree = Tree(entries=tuple(self._entry(at, entry) for at, entry in enumerate(entries)))
        self._copy(tree)
        for entry in entries:
            target = self._origin.entry(entry).target if isinstance(entry, int) else entry.target
            if target is not None:
                self._below.link(self._path(entry), target)
        for entry in reversed(entries):
            if self._type(entry) is EntryType.DIRECTORY:
                mode = self._origin.entry(entry).mode if isinstance(entry, int) else entry.mode
                self._below.set_mode(self._path(entry), mode)
        return tree

    def _copy(self, tree: Tree) -> None:
        """Bring files that are in the new release more than once; each is hashed once more."""
        with closing(Origin(self._place, tree)) as built:
            sharing = Sharing(built, self._below, self._linking)
            for entry in self._plan.entries:
                if isinstance(entry, Fresh) and entry.copy_of is not None:
                    sharing.take_over(entry.copy_of, entry.path, entry.mode)
                    self._tell(entry.size)

    def _path(self, entry: int | Fresh) -> str:
        return self._origin.entry(entry).path if isinstance(entry, int) else entry.path

    def _type(self, entry: int | Fresh) -> EntryType:
        return self._origin.entry(entry).type if isinstance(entry, int) else entry.type

    def _entry(self, at: int, entry: int | Fresh) -> TreeEntry:
        if isinstance(entry, int):
            return self._origin.entry(entry)
        digest = self._digests.get(at if entry.copy_of is None else entry.copy_of)
        if entry.origin is not None:
            digest = self._origin.entry(entry.origin).sha256
        return TreeEntry(
            path=entry.path,
            type=entry.type,
            mode=entry.mode,
            size=entry.size,
            sha256=digest,
            target=entry.target,
        )

    def _unchanged(self, entry: int | Fresh) -> None:
        index = entry if isinstance(entry, int) else entry.origin
        if index is None or self._type(entry) is not EntryType.FILE:
            return
        mode = self._origin.entry(entry).mode if isinstance(entry, int) else entry.mode
        self._sharing.take_over(index, self._path(entry), mode)
        self._tell(self._origin.entry(index).size)

    def _tell(self, size: int) -> None:
        self._done += size
        if self._done - self._told >= TELL_BYTES or self._done == self._total:
            self._told = self._done
            self._progress.tell(
                Text(N_("Building the release from the installed one (bytes)")),
                self._done,
                self._total,
            )

    def _group(self, group: Group, files: list[int]) -> None:
        recipes = {recipe.target: recipe for recipe in group.recipes}
        built = {ref.origin: self._made(ref.origin) for ref in group.refs if ref.built}
        with (
            closing(Origin(self._place, built)) as earlier,
            closing(
                GroupReference(self._origin, group.refs, self._place, self._left, earlier)
            ) as reference,
        ):
            view = View(self._pack, group, reference)
            for number, at in enumerate(files):
                entry = self._plan.entries[at]
                assert isinstance(entry, Fresh)  # noqa: S101 - only these are built
                recipe = recipes.get(number)
                pieces = (
                    view.pieces(entry.size) if recipe is None else rebuilt(view, recipe, reference)
                )
                self._digests[at] = self._write(entry, pieces)
                self._left -= entry.size
                self._tell(entry.size)
            view.end()

    def _made(self, at: int) -> TreeEntry:
        """A file that was built, with the digest of what was written."""
        return self._entry(at, self._plan.entries[at])

    def _write(self, entry: Fresh, pieces: Iterator[bytes]) -> str:
        digest, left = hashlib.sha256(), entry.size
        with os.fdopen(self._below.create(entry.path), "wb") as stream:
            for block in _blocks(pieces):
                left -= len(block)
                if left < 0:
                    break
                digest.update(block)
                stream.write(block)
            os.fchmod(stream.fileno(), entry.mode)
        if left:
            raise OutOfRange(f"{entry.path!r} does not come out with its {entry.size} bytes")
        return digest.hexdigest()


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces put together: an archive has a hundred thousand of a few bytes."""
    parts: list[bytes] = []
    have = 0
    for piece in pieces:
        parts.append(piece)
        have += len(piece)
        if have >= PIECE:
            yield b"".join(parts)
            parts, have = [], 0
    if have:
        yield b"".join(parts)
