"""Operations below one directory that no symbolic link can redirect, even if created meanwhile.

Every path is opened one component at a time, relative to an open directory, without following
links. Paths are relative, with ``/`` as separator; the caller checks that they have no ``..``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ncen_updater.common.atomic_files import sync_open_filesystem

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
EXISTING_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class DirectoryHandle:
    """A directory below which entries are opened and created without following links.

    As a context manager it closes itself.

    Args:
        root: The directory, or a descriptor of it, which ``close`` closes.

    Attributes:
        descriptor: The descriptor of the directory.
    """

    def __init__(self, root: Path | int) -> None:
        self.descriptor = root if isinstance(root, int) else os.open(root, DIRECTORY_FLAGS)
        self._parent: tuple[str, int] | None = None

    @classmethod
    def open_without_symlinks(cls, path: Path) -> DirectoryHandle:
        """Open a directory whose path contains no symbolic link.

        Raises:
            OSError: If it contains one, or is not an existing directory.
        """
        with cls(Path(path.anchor)) as top:
            return top.open_directory(str(path.relative_to(path.anchor)).removeprefix("."))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory."""
        self._clear_cache()
        os.close(self.descriptor)

    def _clear_cache(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _open_parent(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the parent directory, and the last component of the path."""
        directory, _, name = path.rpartition("/")
        if self._parent is None or self._parent[0] != directory:
            self._clear_cache()
            self._parent = (directory, self._open_below(directory))
        return self._parent[1], name

    def _open_below(self, directory: str) -> int:
        here = os.dup(self.descriptor)
        for part in directory.split("/") if directory else ():
            try:
                below = os.open(part, DIRECTORY_FLAGS, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        """Create a directory; by default only its owner may use it until its mode is set."""
        parent, name = self._open_parent(path)
        os.mkdir(name, mode, dir_fd=parent)

    def make_symlink(self, path: str, target: str) -> None:
        """Create a symbolic link."""
        parent, name = self._open_parent(path)
        os.symlink(target, name, dir_fd=parent)

    def create_file(self, path: str) -> int:
        """Create a new file; return a descriptor for writing."""
        parent, name = self._open_parent(path)
        return os.open(name, NEW_FILE_FLAGS, 0o600, dir_fd=parent)

    def set_mode(self, path: str, mode: int) -> None:
        """Set the mode of a directory after its entries were created."""
        descriptor = self._open_below(path)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def open_file(self, path: str) -> int:
        """Open an existing file; return a descriptor for reading."""
        parent, name = self._open_parent(path)
        return os.open(name, EXISTING_FILE_FLAGS, dir_fd=parent)

    def make_hard_link(self, path: str, source: DirectoryHandle, original: str) -> os.stat_result:
        """Make a hard link to a file below another directory; return the status of the new link."""
        parent, name = self._open_parent(path)
        there, old = source._open_parent(original)
        os.link(old, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def remove_file(self, path: str) -> None:
        """Remove a file."""
        parent, name = self._open_parent(path)
        os.unlink(name, dir_fd=parent)

    def ensure_directory(self, path: str) -> None:
        """Create a directory and its missing parents."""
        here = os.dup(self.descriptor)
        try:
            for part in path.split("/"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                    os.fsync(here)
                below = os.open(part, DIRECTORY_FLAGS, dir_fd=here)
                os.close(here)
                here = below
        finally:
            os.close(here)

    def replace_file(self, path: str, content: bytes) -> None:
        """Create or replace a file atomically, and flush it."""
        parent, name = self._open_parent(path)
        temporary = f".{name}.partial-{secrets.token_hex(4)}"
        descriptor = os.open(temporary, NEW_FILE_FLAGS, 0o644, dir_fd=parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise
        os.fsync(parent)

    def remove_tree(self, path: str) -> None:
        """Remove a directory tree; links in it are removed, not followed."""
        parent, name = self._open_parent(path)
        shutil.rmtree(name, dir_fd=parent)
        os.fsync(parent)

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        parent, name = self._open_parent(path)
        os.rmdir(name, dir_fd=parent)

    def is_writable(self) -> bool:
        """Return whether the present user may create entries in the directory."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self.descriptor, effective_ids=True)

    def stat_filesystem(self) -> os.statvfs_result:
        """Return the statistics of the file system, such as its free space."""
        return os.fstatvfs(self.descriptor)

    def open_directory(self, path: str) -> DirectoryHandle:
        """Open a directory below this one."""
        return DirectoryHandle(self._open_below(path))

    def move_entry(self, path: str, other: DirectoryHandle, new: str) -> None:
        """Move an entry to another directory of the same file system."""
        parent, name = self._open_parent(path)
        there, new_name = other._open_parent(new)
        os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=there)

    def stat_entry(self, path: str) -> os.stat_result:
        """Return the status of an entry, not of a link's target; '' is the directory itself."""
        if not path:
            return os.fstat(self.descriptor)
        parent, name = self._open_parent(path)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def read_link(self, path: str) -> str:
        """Return the target of a symbolic link."""
        parent, name = self._open_parent(path)
        return os.readlink(name, dir_fd=parent)

    @contextlib.contextmanager
    def scan_directory(self, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Open a directory for reading its entries."""
        descriptor = self._open_below(path)
        try:
            with os.scandir(descriptor) as items:
                yield items
        finally:
            os.close(descriptor)

    def set_owner(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group of an entry, not of a link's target."""
        parent, name = self._open_parent(path) if path else (self.descriptor, ".")
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    def set_modification_time(self, path: str, mtime_ns: int) -> None:
        """Set the modification time of an entry, not of a link's target."""
        parent, name = self._open_parent(path) if path else (self.descriptor, ".")
        times = (mtime_ns, mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def flush_entries(self) -> None:
        """Flush the entries of this directory."""
        os.fsync(self.descriptor)

    def sync_filesystem(self) -> None:
        """Flush the whole file system, with one call for thousands of entries."""
        sync_open_filesystem(self.descriptor)
