"""The full archive: the same bytes from the same files, on any machine, at any time.

Sorted, owned by 0, one time for all, permissions of two kinds, no name of a user, nothing of the
clock. What still may differ is the compressor: another build of zlib can write other bytes for the
same content, so two builders compare archives made with the same Python image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import Text
from ncen_updater.formats.document import TargetRef
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry
from ncen_updater.publisher.errors import BuildRefused, system_words

DEFAULT_EPOCH: Final = 315_532_800  # 1980-01-01, the earliest time that every tool understands
LEVEL: Final = 9
BLOCK: Final = 1 << 20
OWNER_EXECUTES: Final = 0o100


def normalised(tree: Tree, leave_out: frozenset[str]) -> Tree:
    """The same tree with permissions of two kinds: 0755 for directories and programs, else 0644.

    Args:
        tree: As the directory was scanned.
        leave_out: Paths at the top that do not belong to the release.
    """
    return Tree(
        entries=tuple(
            replace(entry, mode=_mode(entry))
            for entry in tree.entries
            if entry.path not in leave_out
        )
    )


def _mode(entry: TreeEntry) -> int:
    if entry.type is EntryType.SYMLINK:
        return 0o777
    if entry.type is EntryType.DIRECTORY or entry.mode & OWNER_EXECUTES:
        return 0o755
    return 0o644


class _Counting(io.RawIOBase):
    """Passes bytes on and keeps their number and digest."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override] # bytes-like is enough
        self.digest.update(data)
        self.length += len(data)
        return self._stream.write(data)


class _Hashing(io.RawIOBase):
    """Reads a file and keeps the digest of what was read."""

    def __init__(self, stream: IO[bytes], on_bytes: Callable[[int], None] | None) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(BLOCK if size < 0 else size)
        self.digest.update(data)
        if self._on_bytes:
            self._on_bytes(len(data))
        return data


def write_archive(
    root: Path,
    tree: Tree,
    path: Path,
    name: str,
    epoch: int = DEFAULT_EPOCH,
    on_bytes: Callable[[int], None] | None = None,
) -> TargetRef:
    """Pack a tree; memory does not grow with its size.

    Args:
        root: Where the files are.
        tree: What goes in, with the permissions to be written; every file is checked against it.
        path: The archive to write; it appears whole or not at all.
        name: Name of the target.
        epoch: Seconds since 1970 that every member is dated with.
        on_bytes: Told the bytes of each block read.

    Raises:
        BuildRefused: If a file changed since the tree was scanned.
    """
    durable.make_directory(path.parent)
    with durable.writing(path) as stream:
        counting = _Counting(stream)
        with (
            gzip.GzipFile("", "wb", LEVEL, counting, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for entry in tree.entries:
                _add(tar, root, entry, epoch, on_bytes)
    return TargetRef(target=name, length=counting.length, sha256=counting.digest.hexdigest())


def _add(
    tar: tarfile.TarFile,
    root: Path,
    entry: TreeEntry,
    epoch: int,
    on_bytes: Callable[[int], None] | None,
) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode, info.mtime = entry.mode, epoch
    if entry.type is EntryType.DIRECTORY:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif entry.type is EntryType.SYMLINK:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target or ""
        tar.addfile(info)
    else:
        info.size = entry.size
        source = root / entry.path
        try:
            with source.open("rb") as stream:
                reader = _Hashing(stream, on_bytes)
                tar.addfile(info, reader)
        except OSError as error:
            raise BuildRefused(
                path=root,
                reason=Text(
                    "{path} cannot be read: {error}",
                    {"path": entry.path, "error": system_words(error)},
                ),
            ) from error
        if reader.digest.hexdigest() != entry.sha256 or source.stat().st_size != entry.size:
            raise BuildRefused(
                path=root,
                reason=Text("{path} changed while it was being packed", {"path": entry.path}),
            )
