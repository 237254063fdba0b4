"""Build the tree of a release from the installed slot and a delta pack.

The pack is not trusted. Its index is checked completely before the first byte is written, every old
file is hashed before it is used, and every stream is read within its stated length. The digests of
the returned tree are computed from the written bytes; the caller compares the tree's digest with
the signed one.

An unchanged file is hashed, then cloned, linked or copied. A hard link is one file with two names:
a write through one name changes both slots. So a link is made only of a regular file that root owns
and that nobody may write: then no service of another user can make it writable. See
docs/decisions/0087-slots.md.

An archive is rebuilt: its frame and its changed members come from the streams of the pack, its
other members, still compressed, from the old archive.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ncen_updater.common.bounded_io import NotRegularFileError, open_file
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DELTA_UNSUPPORTED,
    OLD_FILE_ALTERED,
)
from ncen_updater.common.progress import Amount, ProgressListener, Unit
from ncen_updater.formats.delta.byte_transforms import join_pieces
from ncen_updater.formats.delta.group_decoder import GroupView
from ncen_updater.formats.delta.index_reader import decode_plan
from ncen_updater.formats.delta.lzma_streams import (
    MalformedPackError,
    ReadAheadFile,
)
from ncen_updater.formats.delta.pack_plan import (
    ArchiveOperation,
    ArchiveOperationKind,
    ArchiveRecipe,
    DeltaError,
    DeltaLimits,
    FileGroup,
    FileReference,
    LinkMode,
    NewEntry,
    PackPlan,
    check_no_trailing_data,
    list_capabilities,
    make_deflater,
    read_header,
    read_index,
)
from ncen_updater.formats.delta.zip_archive import (
    NotAnArchiveError,
    ZipTable,
    count_view_bytes,
    iter_view,
)
from ncen_updater.formats.tree import WRITE_BITS, EntryType, Tree, TreeEntry

BLOCK = 1 << 20
OPEN_FILES = 64
PAGE, PAGES = 16 << 10, 256  # covers jump between offsets: cache the last few MiB
SPOOL_BYTES = 4 << 20
MAX_SPOOL_BYTES = 2 << 30
FICLONE = 0x40049409  # linux/fs.h
ROOT = 0
# Errors of a file system that cannot clone blocks, or not between these two files.
NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
NO_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)


def is_link_safe(info: os.stat_result, mode: int, user: int, linking: LinkMode) -> bool:
    """Return whether no process can write through a second name of a file. Pure.

    Args:
        info: Status of the file.
        mode: Its mode in the new slot, before the write bits are removed.
        user: User id of the agent.
        linking: Which files may be linked.
    """
    owners = {ROOT, user} if linking is LinkMode.SEALED else {ROOT}
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid in owners
        and stat.S_IMODE(info.st_mode) == mode & ~WRITE_BITS
    )


class FileSharing:
    """Clones, links or copies old files into a new slot.

    Args:
        origin: The old slot.
        below: The new slot.
        linking: Which files may be linked.
    """

    def __init__(self, origin: VerifiedFiles, below: DirectoryHandle, linking: LinkMode) -> None:
        self._origin, self._below, self._linking = origin, below, linking
        self._clones = True

    def share_file(self, index: int, path: str, mode: int) -> None:
        """Bring an old file into the new slot, under its new path.

        Raises:
            OLD_FILE_ALTERED: If the old file differs from its record.
            OSError: If the disk fails.
        """
        source = self._origin.open_file(index)
        try:
            if self._clones and self._try_clone(index, source, path, mode):
                return
            if is_link_safe(os.fstat(source), mode, os.geteuid(), self._linking):
                self._origin.read_verified(index, source)
                if self._try_link(index, source, path):
                    return
            with os.fdopen(self._below.create_file(path), "wb") as stream:
                self._origin.read_verified(index, source, stream.write)
                os.fchmod(stream.fileno(), mode)
        finally:
            os.close(source)

    def _try_clone(self, index: int, source: int, path: str, mode: int) -> bool:
        """Clone the blocks; after the first refusal of the file system, do not try again."""
        target = self._below.create_file(path)
        try:
            fcntl.ioctl(target, FICLONE, source)
            self._origin.read_verified(index, target)
            os.fchmod(target, mode)
        except OSError as error:
            if error.errno not in NO_CLONE:
                raise
            self._clones = False
            self._below.remove_file(path)
            return False
        finally:
            os.close(target)
        return True

    def _try_link(self, index: int, source: int, path: str) -> bool:
        """Make a hard link, and check that it is the file that was hashed."""
        old = self._origin.get_entry(index).path
        try:
            made = self._below.make_hard_link(path, self._origin.below, old)
        except OSError as error:
            if error.errno in NO_LINK:
                return False
            raise
        if not os.path.samestat(made, os.fstat(source)):
            self._below.remove_file(path)
            raise DeltaError(OLD_FILE_ALTERED, path=old, detail="replaced while being read")
        return True


def rebuild_archive(
    view: GroupView, recipe: ArchiveRecipe, reference: GroupReference
) -> Iterator[bytes]:
    """Yield the bytes of a rebuilt archive.

    Raises:
        MalformedPackError: If the old archive lacks members that the recipe uses.
    """
    for op in recipe.operations:
        if op.kind is ArchiveOperationKind.PLAIN:
            yield from view.read_pieces(op.count)
        elif op.kind is ArchiveOperationKind.DEFLATE:
            packer = make_deflater(op.argument)
            for piece in view.read_pieces(op.count):
                yield packer.compress(piece)
            yield packer.flush()
        else:
            yield from _rebuild_members(view, op, recipe.source, reference)


def _rebuild_members(
    view: GroupView, op: ArchiveOperation, source: int, reference: GroupReference
) -> Iterator[bytes]:
    """Yield consecutive old members; the bytes between them come from the stream."""
    table = reference.get_zip_table(source)
    if op.argument + op.count > len(table):
        raise MalformedPackError("invalid reference")
    ahead = ReadAheadFile(lambda: reference.get_descriptor(source))
    for index in range(op.argument, op.argument + op.count):
        if index > op.argument:
            yield from view.read_pieces(table.get_gap(index)[1])
        member = table[index]
        at = member.start
        while at < member.end:
            piece = ahead.read(at, member.end - at)
            if not piece:
                raise MalformedPackError("truncated archive")
            at += len(piece)
            yield piece


READ_BLOCK_BYTES = 256 << 10
PROGRESS_BYTES = 8 << 20


def apply_pack(
    pack: Path,
    old: Path,
    old_tree: Tree,
    destination: Path,
    limits: DeltaLimits,
    progress: ProgressListener,
    link_mode: LinkMode = LinkMode.SAFE,
) -> Tree:
    """Build the new release in an empty directory.

    Args:
        pack: The pack, with verified length and digest.
        old: The slot that the pack starts from.
        old_tree: The tree of that slot, from its record.
        destination: An empty directory.
        limits: The signed limits of the pack.
        progress: Receives the bytes of the new release written so far.
        link_mode: Which unchanged files may be linked.

    Returns:
        The tree that was written.

    Raises:
        DELTA_ERROR: If the pack is damaged, is for other trees, or exceeds the signed limits.
        DELTA_UNSUPPORTED: If this agent lacks a capability that it needs.
        OLD_FILE_ALTERED: If a file of the old slot differs from its record.
        InsufficientSpaceError: If the disk has too little space for the new and temporary files.
        OSError: If the disk fails.
    """
    missing = sorted(set(limits.needs) - list_capabilities())
    if missing:
        raise DeltaError(DELTA_UNSUPPORTED, pack=pack.name, needs=", ".join(missing))
    try:
        # The directory belongs to another user, who may have replaced the file meanwhile.
        stream = open_file(pack)
    except NotRegularFileError as error:
        raise DeltaError(pack=pack.name, detail=get_error_text(error)) from error
    with stream, _map_errors(pack):
        descriptor = stream.fileno()
        plan = _read_plan(descriptor, pack, old_tree, limits)
        with (
            closing(VerifiedFiles(old, old_tree)) as origin,
            DirectoryHandle(destination) as below,
        ):
            return _TreeBuilder(
                descriptor, plan, origin, below, destination, link_mode, progress
            ).build_tree()


@contextmanager
def _map_errors(pack: Path) -> Iterator[None]:
    try:
        yield
    except (MalformedPackError, UnicodeDecodeError) as error:
        raise DeltaError(pack=pack.name, detail=get_error_text(error)) from error


def _read_plan(descriptor: int, pack: Path, old: Tree, limits: DeltaLimits) -> PackPlan:
    """Read the index and check everything that can be checked before writing."""
    header = read_header(descriptor)
    if (header.from_tree, header.to_tree) != (limits.from_tree, limits.to_tree):
        raise DeltaError(pack=pack.name, detail=LazyText(N_("made for other releases")))
    if old.compute_digest() != limits.from_tree:
        raise DeltaError(pack=pack.name, detail="slot record differs")
    index = read_index(descriptor, header)
    plan = decode_plan(index, old, header.streams_start, limits.out_files)
    check_no_trailing_data(descriptor, header, plan)
    total = sum(old.entries[e].size if isinstance(e, int) else e.size for e in plan.entries)
    for found, most in (
        (total, limits.out_bytes),
        (plan.memory_bytes, limits.max_memory_bytes),
    ):
        if found > most:
            raise MalformedPackError(
                N_("{found_bytes}, signed for {limit_bytes}"), found_bytes=found, limit_bytes=most
            )
    unsigned = set(plan.needs).difference(limits.needs)
    if unsigned:
        raise MalformedPackError(
            N_("capabilities not signed: {names}"), names=", ".join(sorted(unsigned))
        )
    return plan


class _TreeBuilder:
    def __init__(
        self,
        pack: int,
        plan: PackPlan,
        origin: VerifiedFiles,
        below: DirectoryHandle,
        place: Path,
        linking: LinkMode,
        progress: ProgressListener,
    ) -> None:
        self._pack, self._plan, self._origin, self._below = pack, plan, origin, below
        self._place, self._progress = place, progress
        self._linking = linking
        self._sharing = FileSharing(origin, below, linking)
        self._digests: dict[int, str] = {}
        # An unchanged entry is that of the old tree.
        self._entries = [origin.get_entry(e) if isinstance(e, int) else e for e in plan.entries]
        self._built = [
            at for at, e in enumerate(plan.entries) if isinstance(e, NewEntry) and e.is_built
        ]
        # Bytes that are still to be built.
        self._left = sum(self._entries[at].size for at in self._built)
        self._done = self._reported = 0
        self._total = sum(entry.size for entry in self._entries)

    def build_tree(self) -> Tree:
        """Write all entries; create links and set the modes of directories last."""
        copies = [
            e.size for e in self._plan.entries if isinstance(e, NewEntry) and e.copy_of is not None
        ]
        require_space(self._place, self._left + sum(copies))
        for entry in self._entries:
            if entry.type is EntryType.DIRECTORY:
                self._below.make_directory(entry.path)
        for source, entry in zip(self._plan.entries, self._entries, strict=True):
            index = source if isinstance(source, int) else source.origin
            if index is not None and entry.type is EntryType.FILE:
                self._sharing.share_file(index, entry.path, entry.mode)
                self._tell(entry.size)
        start = 0
        for group in self._plan.groups:
            self._build_group(group, self._built[start : start + group.files])
            start += group.files
        tree = Tree(entries=tuple(map(self._make_entry, range(len(self._entries)))))
        self._copy_duplicates(tree)
        for entry in self._entries:
            if entry.target is not None:
                self._below.make_symlink(entry.path, entry.target)
        for entry in reversed(self._entries):
            if entry.type is EntryType.DIRECTORY:
                self._below.set_mode(entry.path, entry.mode)
        return tree

    def _copy_duplicates(self, tree: Tree) -> None:
        """Write files that occur several times in the new release; hash each again."""
        with closing(VerifiedFiles(self._place, tree)) as built:
            sharing = FileSharing(built, self._below, self._linking)
            for entry in self._plan.entries:
                if isinstance(entry, NewEntry) and entry.copy_of is not None:
                    sharing.share_file(entry.copy_of, entry.path, entry.mode)
                    self._tell(entry.size)

    def _make_entry(self, at: int) -> TreeEntry:
        """Return an entry of the new tree; a built file has the digest of the written bytes."""
        entry = self._entries[at]
        if isinstance(entry, TreeEntry):
            return entry
        digest = self._digests.get(at if entry.copy_of is None else entry.copy_of)
        if entry.origin is not None:
            digest = self._origin.get_entry(entry.origin).sha256
        return TreeEntry(
            path=entry.path,
            type=entry.type,
            mode=entry.mode,
            size=entry.size,
            sha256=digest,
            target=entry.target,
        )

    def _tell(self, size: int) -> None:
        self._done += size
        if self._done - self._reported >= PROGRESS_BYTES or self._done == self._total:
            self._reported = self._done
            self._progress.report(
                LazyText(N_("Building the release from the installed files")),
                Amount(self._done, self._total, Unit.BYTES),
            )

    def _build_group(self, group: FileGroup, files: list[int]) -> None:
        recipes = {recipe.target: recipe for recipe in group.recipes}
        built = {
            ref.origin: self._make_entry(ref.origin) for ref in group.references if ref.is_built
        }
        with (
            closing(VerifiedFiles(self._place, built)) as earlier,
            closing(
                GroupReference(self._origin, group.references, self._place, self._left, earlier)
            ) as reference,
        ):
            view = GroupView(self._pack, group, reference)
            for number, at in enumerate(files):
                entry = self._plan.entries[at]
                assert isinstance(entry, NewEntry)  # noqa: S101 - only these are built
                recipe = recipes.get(number)
                pieces = (
                    view.read_pieces(entry.size)
                    if recipe is None
                    else rebuild_archive(view, recipe, reference)
                )
                self._digests[at] = self._write(entry, pieces)
                self._left -= entry.size
                self._tell(entry.size)
            view.check_exhausted()

    def _write(self, entry: NewEntry, pieces: Iterator[bytes]) -> str:
        digest, left = hashlib.sha256(), entry.size
        with os.fdopen(self._below.create_file(entry.path), "wb") as stream:
            for block in join_pieces(pieces, READ_BLOCK_BYTES):
                left -= len(block)
                if left < 0:
                    break
                digest.update(block)
                stream.write(block)
            os.fchmod(stream.fileno(), entry.mode)
        if left:
            raise MalformedPackError(N_("{name}: unexpected size"), name=repr(entry.path))
        return digest.hexdigest()


class VerifiedFiles:
    """Files of a slot, old or being built, verified when they are read.

    Args:
        root: Directory of the slot.
        tree: Its tree, from its record; or some entries of it, by index.
    """

    def __init__(self, root: Path, tree: Tree | Mapping[int, TreeEntry]) -> None:
        self._entries = tree.entries if isinstance(tree, Tree) else tree
        self.below = DirectoryHandle(root)

    def close(self) -> None:
        """Close the directory."""
        self.below.close()

    def get_entry(self, index: int) -> TreeEntry:
        """Return the entry of a valid index."""
        return self._entries[index]

    def open_file(self, index: int) -> int:
        """Open a file; return its descriptor.

        Raises:
            OLD_FILE_ALTERED: If it does not exist or is not a regular file of the recorded size.
        """
        entry = self._entries[index]
        try:
            descriptor = self.below.open_file(entry.path)
        except OSError as error:
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path, detail=str(error)) from error
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size != entry.size:
            os.close(descriptor)
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path, detail="length mismatch")
        return descriptor

    def read_verified(
        self, index: int, descriptor: int, use: Callable[[bytes], object] | None = None
    ) -> None:
        """Read a whole file, pass on its blocks, and compare its digest at the end.

        Raises:
            OLD_FILE_ALTERED: If the digest differs.
        """
        entry = self._entries[index]
        digest, at = hashlib.sha256(), 0
        while block := os.pread(descriptor, BLOCK, at):
            digest.update(block)
            at += len(block)
            if at > entry.size:
                break
            if use:
                use(block)
        if digest.hexdigest() != entry.sha256:
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path)

    @contextmanager
    def open_verified(self, index: int) -> Iterator[int]:
        """Open a file and verify its digest; yield the descriptor."""
        descriptor = self.open_file(index)
        try:
            self.read_verified(index, descriptor)
            yield descriptor
        finally:
            os.close(descriptor)


class GroupReference:
    """The concatenated reference files of a group.

    Args:
        origin: The old slot.
        refs: The files.
        spool: Directory for decompressed archive members that do not fit into memory.
        reserve: Bytes that must stay free on the same disk for the files still to be built.
        earlier: Files that earlier groups built.

    Raises:
        InsufficientSpaceError: If the disk has too little space for the members.
    """

    def __init__(
        self,
        origin: VerifiedFiles,
        refs: tuple[FileReference, ...],
        spool: Path,
        reserve: int = 0,
        earlier: VerifiedFiles | None = None,
    ) -> None:
        self._refs, self._place, self._reserve = refs, spool, reserve
        self._origins = {False: origin, True: earlier or origin}
        self._open: OrderedDict[int, int] = OrderedDict()
        self.tables: dict[int, ZipTable] = {}
        self._spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            SPOOL_BYTES, dir=str(spool)
        )
        self._spooled: dict[int, int] = {}
        self._starts = [0]
        self._pages: list[tuple[int, bytes]] = [(-1, b"")] * PAGES
        try:
            for at, ref in enumerate(refs):
                from_here = self._origins[ref.is_built]
                with from_here.open_verified(ref.origin) as descriptor:
                    size = (
                        from_here.get_entry(ref.origin).size
                        if ref.members is None
                        else self._unpack(at, descriptor, ref.members)
                    )
                self._starts.append(self._starts[-1] + size)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Return the total bytes."""
        return self._starts[-1]

    def close(self) -> None:
        """Close all files."""
        self._spool.close()
        while self._open:
            os.close(self._open.popitem()[1])

    def get_descriptor(self, at: int) -> int:
        """Return an open descriptor of a file; it is valid until the next call."""
        if at in self._open:
            self._open.move_to_end(at)
            return self._open[at]
        if len(self._open) >= OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        self._open[at] = self._origins[self._refs[at].is_built].open_file(self._refs[at].origin)
        return self._open[at]

    def get_zip_table(self, at: int) -> ZipTable:
        """Return the member table of an archive.

        Raises:
            MalformedPackError: If the pack does not refer to the file as an archive.
        """
        if at not in self.tables:
            raise MalformedPackError("invalid reference")
        return self.tables[at]

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``."""
        page, skip = divmod(start, PAGE)
        if skip + length > PAGE:
            return self._read_across_files(start, length)
        known, content = self._pages[page % PAGES]
        if known != page:
            content = self._read_across_files(page * PAGE, min(PAGE, self.size - page * PAGE))
            self._pages[page % PAGES] = page, content
        return content[skip : skip + length]

    def _read_across_files(self, start: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            at = bisect_right(self._starts, start) - 1
            size = min(length, self._starts[at + 1] - start)
            parts.append(self._load_page(at, start, size))
            start += size
            length -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _load_page(self, at: int, start: int, size: int) -> bytes:
        inside = start - self._starts[at]
        if at in self._spooled:
            self._spool.seek(self._spooled[at] + inside)
            content = self._spool.read(size)
        else:
            content = os.pread(self.get_descriptor(at), size, inside)
        if len(content) != size:
            ref = self._refs[at]
            entry = self._origins[ref.is_built].get_entry(ref.origin)
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path)
        return content

    def _unpack(self, at: int, descriptor: int, members: tuple[int, ...]) -> int:
        self._spooled[at] = start = self._spool.tell()
        try:
            self.tables[at] = table = ZipTable(descriptor)
            size = count_view_bytes(table, members)
            if start + size > MAX_SPOOL_BYTES:
                raise MalformedPackError(
                    N_("more than {limit_bytes} of archive members"), limit_bytes=MAX_SPOOL_BYTES
                )
            if start + size > SPOOL_BYTES:
                require_space(self._place, size + self._reserve)
                # Roll over first: up to Python 3.12 'writelines' checks the size only at its end.
                self._spool.rollover()
            self._spool.writelines(iter_view(table, descriptor, members))
        except NotAnArchiveError as error:
            raise MalformedPackError(
                N_("an old file is not the expected archive: {reason}"),
                reason=get_error_text(error),
            ) from error
        return size
