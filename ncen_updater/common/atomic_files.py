"""Writes that survive a power cut: temporary file, fsync, rename, fsync of the directory.

For files that must be complete after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

#: Part of the names of unfinished files.
PARTIAL_PREFIX = ".partial-"
#: Constants of ``<fcntl.h>`` and ``<linux/fs.h>``.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def fsync_directory(path: Path) -> None:
    """Flush the entries of a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    """Flush the whole file system of a path; see :func:`sync_open_filesystem`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_open_filesystem(descriptor, str(path))
    finally:
        os.close(descriptor)


def sync_open_filesystem(descriptor: int, path: str | None = None) -> None:
    """Flush the whole file system of an open file: for a tree of thousands of small files.

    An ``fsync`` per file would wait for one journal commit each. Since Linux 5.8 ``syncfs`` reports
    write errors; ``path`` names the file in the error.
    """
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def make_directory(path: Path, mode: int = 0o755, *, exactly: bool = False) -> None:
    """Create a directory and its missing parents, and flush each parent.

    Args:
        path: The directory.
        mode: Mode of the created directories, before the umask applies.
        exactly: Whether to ignore the umask, because other users need access.
    """
    if path.is_dir():
        return
    make_directory(path.parent, mode, exactly=exactly)
    path.mkdir(mode=mode, exist_ok=True)
    if exactly:
        path.chmod(mode)
    fsync_directory(path.parent)


@contextlib.contextmanager
def open_for_replace(
    path: Path, mode: int = 0o644, *, exactly: bool = False
) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces ``path`` atomically when the block succeeds.

    On an exception the temporary file is removed and ``path`` is unchanged.

    Args:
        path: The file.
        mode: Its mode, before the umask applies.
        exactly: Whether to ignore the umask, because other users need access.
    """
    temporary = path.with_name(f".{path.name}{PARTIAL_PREFIX}{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # Whatever the umask removes, the owner can read and replace the file.
            made = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, mode if exactly else made | (mode & 0o700))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = error.filename or str(path)  # the kernel names no file
        raise
    fsync_directory(path.parent)


@contextlib.contextmanager
def make_world_readable() -> Iterator[None]:
    """Make files written in the block readable by everyone, whatever the umask.

    For files that a web server serves. The umask belongs to the process, so no other thread may
    write files during the block.
    """
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def is_partial_file(path: Path) -> bool:
    """Return whether a file is the temporary file of an interrupted write."""
    return path.name.startswith(".") and PARTIAL_PREFIX in path.name


def write_file(path: Path, content: bytes, mode: int = 0o644, *, exactly: bool = False) -> None:
    """Replace the content of a file atomically; see :func:`open_for_replace`."""
    with open_for_replace(path, mode, exactly=exactly) as stream:
        stream.write(content)


def rename_entry(source: Path, target: Path) -> None:
    """Rename an entry, also to another directory, and flush the directories."""
    source.rename(target)
    fsync_directory(target.parent)
    if source.parent != target.parent:
        fsync_directory(source.parent)


def exchange_entries(first: Path, second: Path) -> None:
    """Exchange two names atomically, and flush their directories.

    Raises:
        OSError: If one does not exist or the file system lacks the operation; nothing was changed.
    """
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if renameat2 is not None:
        names = AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second)
        sys.audit("os.rename", str(first), str(second), -1, -1)
        number = ctypes.get_errno() if renameat2(*names, RENAME_EXCHANGE) else 0
    if number:
        raise OSError(number, os.strerror(number), str(first), None, str(second))
    for directory in {first.parent, second.parent}:
        fsync_directory(directory)


def replace_symlink(target: Path | str, link: Path) -> None:
    """Create or replace a symbolic link atomically."""
    temporary = link.with_name(f".{link.name}{PARTIAL_PREFIX}{secrets.token_hex(4)}")
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(link.parent)


def remove_file(path: Path) -> None:
    """Remove a file or link if it exists, and flush its directory."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        fsync_directory(path.parent)


def remove_entry(path: Path) -> None:
    """Remove a file, link or directory if it exists, and flush its directory.

    A directory may contain read-only directories. No link in it is followed, even if another user
    replaces a directory by one meanwhile.
    """
    if path.is_dir() and not path.is_symlink():
        for *_, descriptor in os.fwalk(path):
            os.fchmod(descriptor, 0o700)
        shutil.rmtree(path)
    remove_file(path)
