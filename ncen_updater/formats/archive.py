"""Unpack a ``.tar.gz`` to exactly the signed tree.

The archive is untrusted; it only supplies bytes. A member is written only if the tree has its path
with the same type, mode, size and link target. Each file is hashed while it is written.

* Every path is opened relative to the destination's descriptor, one component at a time, without
  following links. So no name leads out of the destination, even if links are created meanwhile.
* Reading stops at the signed size: a decompression bomb, in a file or in a header, costs at most
  1 MiB more.
* Hard links, devices, sparse files and duplicate members are refused.
* Files are flushed by one ``syncfs`` at the end: a tree has thousands of small files, and each
  ``fsync`` would wait for its own journal commit. Since Linux 5.8 ``syncfs`` reports write errors.
  If the C library lacks it, all file systems are flushed.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import stat
import struct
import tarfile
import zlib
from collections.abc import Collection, Generator, Iterator
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotRegularFileError, open_file
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import InsufficientSpaceError, TextError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ARCHIVE_DAMAGED, ARCHIVE_MISMATCH, DESTINATION_IN_USE
from ncen_updater.common.progress import Amount, ProgressListener, Unit
from ncen_updater.formats.errors import TransferError
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

BLOCK = 1 << 20
INITIAL_ALLOWANCE_BYTES = 1 << 20  # bytes that may be read beyond the signed bytes so far
MEMBER_ALLOWANCE_BYTES = 8 << 10  # header, long names and padding of one member


class _MemberRefusedError(TextError):
    """An archive member that does not match the tree."""


class _LimitedStream:
    """A stream that raises if more bytes come out than the tree allows so far."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._read = stream, 0
        self.allowed = INITIAL_ALLOWANCE_BYTES

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._read += len(block)
        if self._read > self.allowed:
            raise _MemberRefusedError("larger than the signed tree")
        return block


def unpack_archive(
    archive: Path, tree: Tree, destination: Path, progress: ProgressListener
) -> None:
    """Unpack a release into an empty directory.

    Args:
        archive: The ``.tar.gz``; it is not trusted.
        tree: The signed tree.
        destination: Created if it does not exist; on failure emptied, or removed if created.
        progress: Receives the bytes written and the total.

    Raises:
        ARCHIVE_MISMATCH: If the archive does not contain exactly the tree.
        ARCHIVE_DAMAGED: If the file is not a complete ``.tar.gz``.
        DESTINATION_IN_USE: If the directory is not empty.
        InsufficientSpaceError: If the disk has too little space.
        OSError: If the disk fails in another way.
    """
    if not _is_file(archive):
        raise TransferError(ARCHIVE_DAMAGED, archive=archive.name, detail="not a regular file")
    created = not destination.is_symlink() and not destination.exists()
    if not created and (not _is_directory(destination) or any(destination.iterdir())):
        raise TransferError(DESTINATION_IN_USE, path=destination)
    durable.make_directory(destination)
    try:
        with _map_errors(archive, destination, tree):
            require_space(destination, tree.total_bytes)
            _unpack_members(archive, tree, destination, progress)
    except BaseException:
        _empty_destination(destination, created)
        raise


def unpack_selected_files(
    archive: Path, tree: Tree, paths: Collection[str], destination: Path
) -> None:
    """Unpack some files of a release into an empty directory, for inspection.

    Args:
        archive: As for :func:`unpack_archive`.
        tree: The signed tree.
        paths: The files; those that are not in the tree are skipped.
        destination: Directory in which the files get their paths of the release.

    Raises:
        ARCHIVE_MISMATCH: If a member up to the last of these files does not match the tree.
        ARCHIVE_DAMAGED: If the file is not a ``.tar.gz``.
        InsufficientSpaceError: If the disk has too little space.
        OSError: If the disk fails in another way.
    """
    wanted = {entry.path: entry for entry in tree.entries}
    left = {path for path in paths if path in wanted and wanted[path].type is EntryType.FILE}
    with (
        _map_errors(archive, destination, tree),
        DirectoryHandle(destination) as directory,
        contextlib.closing(_iter_members(archive, wanted)) as members,
    ):
        while left and (found := next(members, None)) is not None:
            tar, member, entry = found
            if entry.path not in left:
                continue
            left.remove(entry.path)
            if "/" in entry.path:
                directory.ensure_directory(entry.path.rpartition("/")[0])
            _write_entry(tar, member, entry, directory)
        if left:
            raise _MemberRefusedError(N_("{name}: missing in the archive"), name=repr(min(left)))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True  # reported when it is opened
    except OSError:  # for example a link that points to itself
        return False


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _empty_destination(destination: Path, created: bool) -> None:
    for item in destination.iterdir():
        if _is_directory(item):
            shutil.rmtree(item)
        else:
            item.unlink()
    if created:
        destination.rmdir()


@contextlib.contextmanager
def _map_errors(archive: Path, destination: Path, tree: Tree) -> Iterator[None]:
    try:
        yield
    except _MemberRefusedError as error:
        raise TransferError(
            ARCHIVE_MISMATCH, archive=archive.name, detail=get_error_text(error)
        ) from error
    except (
        tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, UnicodeError, NotRegularFileError,
    ) as error:  # fmt: skip
        raise TransferError(
            ARCHIVE_DAMAGED, archive=archive.name, detail=get_error_text(error)
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(destination).free
            needed = tree.total_bytes
            raise InsufficientSpaceError(
                path=destination,
                needed_bytes=needed,
                free_bytes=free,
                missing_bytes=max(needed - free, 1),
            ) from error
        raise


def _unpack_members(
    archive: Path, tree: Tree, destination: Path, progress: ProgressListener
) -> None:
    wanted = {entry.path: entry for entry in tree.entries}
    if len(wanted) != len(tree.entries):
        raise _MemberRefusedError("duplicate path")
    reported, total = LazyText(N_("unpacking {archive}"), {"archive": archive.name}), 0
    expected = tree.total_bytes  # computed once: it sums over all entries
    with (
        DirectoryHandle(destination) as directory,
        contextlib.closing(_iter_members(archive, wanted)) as members,
    ):
        for tar, member, entry in members:
            if entry.type is EntryType.DIRECTORY:
                directory.make_directory(entry.path)
            elif entry.target is not None:
                directory.make_symlink(entry.path, entry.target)
            else:
                _write_entry(tar, member, entry, directory)
                total += entry.size
                progress.report(reported, Amount(total, expected, Unit.BYTES))
        if wanted:
            raise _MemberRefusedError(
                N_("{name}: missing in the archive"), name=repr(next(iter(wanted)))
            )
        for entry in reversed(tree.entries):
            if entry.type is EntryType.DIRECTORY:
                directory.set_mode(entry.path, entry.mode)
        directory.sync_filesystem()


def _iter_members(
    archive: Path, wanted: dict[str, TreeEntry]
) -> Generator[tuple[tarfile.TarFile, tarfile.TarInfo, TreeEntry], None, None]:
    """Yield each member with its entry, which is removed from ``wanted``."""
    with open_file(archive) as packed, gzip.GzipFile(fileobj=packed, mode="rb") as plain:
        metered = _LimitedStream(plain)
        with _open_tar(metered) as tar:
            while (member := _read_next_member(tar)) is not None:
                tar.members = []  # type: ignore[attr-defined] # tarfile would keep every header
                entry = _check_member(member, wanted.pop(member.name, None))
                metered.allowed += MEMBER_ALLOWANCE_BYTES + member.size
                yield tar, member, entry
        while metered.read(BLOCK):  # to the end, where gzip stores its checksum
            pass


@contextlib.contextmanager
def _map_header_errors() -> Iterator[None]:
    """Convert exceptions that tarfile raises for malformed headers into ``ReadError``."""
    try:
        yield
    except (
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
        MemoryError, struct.error,
    ) as error:  # fmt: skip
        raise tarfile.ReadError(
            LazyText(N_("invalid header: {reason}"), {"reason": str(error)[:500]})
        ) from error


def _open_tar(stream: _LimitedStream) -> tarfile.TarFile:
    with _map_header_errors():  # tarfile.open reads the first header
        return tarfile.open(fileobj=stream, mode="r|", errorlevel=2)  # type: ignore[call-overload, no-any-return]


def _read_next_member(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    with _map_header_errors():
        return tar.next()


def _check_member(member: tarfile.TarInfo, entry: TreeEntry | None) -> TreeEntry:
    name = member.name
    if entry is None:
        raise _MemberRefusedError(
            N_("{name}: not in the signed tree, or duplicate"), name=repr(name)
        )
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise _MemberRefusedError(N_("{name}: invalid path"), name=repr(name))
    kind = {
        tarfile.REGTYPE: EntryType.FILE,
        tarfile.AREGTYPE: EntryType.FILE,
        tarfile.DIRTYPE: EntryType.DIRECTORY,
        tarfile.SYMTYPE: EntryType.SYMLINK,
    }.get(member.type)
    if kind is not entry.type or member.issparse():
        raise _MemberRefusedError(N_("{name}: unexpected type"), name=repr(name))
    if kind is EntryType.SYMLINK:
        if member.linkname != entry.target:
            raise _MemberRefusedError(
                N_("{name}: link to {target}"), name=repr(name), target=repr(member.linkname)
            )
    elif member.mode != entry.mode:
        raise _MemberRefusedError(
            N_("{name}: mode {found}, expected {expected}"),
            name=repr(name),
            found=f"{member.mode:o}",
            expected=f"{entry.mode:o}",
        )
    if member.size != entry.size:
        raise _MemberRefusedError(N_("{name}: unexpected size"), name=repr(name))
    return entry


def _write_entry(
    tar: tarfile.TarFile, member: tarfile.TarInfo, entry: TreeEntry, directory: DirectoryHandle
) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise _MemberRefusedError(N_("{name}: unexpected type"), name=repr(entry.path))
    digest, left = hashlib.sha256(), entry.size
    with os.fdopen(directory.create_file(entry.path), "wb") as stream, source:
        while left and (block := source.read(min(BLOCK, left))):
            digest.update(block)
            stream.write(block)
            left -= len(block)
        os.fchmod(stream.fileno(), entry.mode)
    if left:
        raise tarfile.ReadError(LazyText(N_("{name}: unexpected size"), {"name": repr(entry.path)}))
    if digest.hexdigest() != entry.sha256:
        raise _MemberRefusedError(N_("{name}: digest mismatch"), name=repr(entry.path))
