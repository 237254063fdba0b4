"""Entries below one directory: no name leads out of it, whatever is planted meanwhile.

Every path is walked one part after the other, relative to an open directory, and no link is
followed. Paths are relative, with ``/`` between parts; whether they are plain is checked before.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ncen_updater.common.atomic_files import sync_open_filesystem

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
EXISTING_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class DirectoryHandle:
    """Opens and creates entries below one directory without ever following a link.

    Args:
        root: The directory, or a descriptor of it, which is closed with this.
    """

    def __init__(self, root: Path | int) -> None:
        self._root = root if isinstance(root, int) else os.open(root, DIRECTORY_FLAGS)
        self._parent: tuple[str, int] | None = None

    @classmethod
    def open_without_symlinks(cls, path: Path) -> DirectoryHandle:
        """Open a directory no part of whose path is a link.

        Raises:
            OSError: If one is, or it is not there, or no directory.
        """
        top = cls(Path(path.anchor))
        try:
            return cls(top._open_below(str(path.relative_to(path.anchor)).removeprefix(".")))
        finally:
            top.close()

    def close(self) -> None:
        """Let go of the directory."""
        self._clear_cache()
        os.close(self._root)

    def _clear_cache(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _open_parent(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the directory of a path, and the last part of the path."""
        directory, _, name = path.rpartition("/")
        if self._parent is None or self._parent[0] != directory:
            self._clear_cache()
            self._parent = (directory, self._open_below(directory))
        return self._parent[1], name

    def _open_below(self, directory: str) -> int:
        here = os.dup(self._root)
        for part in directory.split("/") if directory else ():
            try:
                below = os.open(part, DIRECTORY_FLAGS, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        """Make a directory that only its owner may use, until its mode is set, unless given."""
        parent, name = self._open_parent(path)
        os.mkdir(name, mode, dir_fd=parent)

    def make_symlink(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        parent, name = self._open_parent(path)
        os.symlink(target, name, dir_fd=parent)

    def create_file(self, path: str) -> int:
        """Make a file that is not there yet; return a descriptor to write to it."""
        parent, name = self._open_parent(path)
        return os.open(name, NEW_FILE_FLAGS, 0o600, dir_fd=parent)

    def set_mode(self, path: str, mode: int) -> None:
        """Give a directory its permissions, once everything is in it."""
        descriptor = self._open_below(path)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def open_file(self, path: str) -> int:
        """Open a file that is there; return a descriptor to read from it."""
        parent, name = self._open_parent(path)
        return os.open(name, EXISTING_FILE_FLAGS, dir_fd=parent)

    def make_hard_link(self, path: str, source: DirectoryHandle, original: str) -> os.stat_result:
        """Give a file below another directory a name here too; return what that name leads to."""
        parent, name = self._open_parent(path)
        there, old = source._open_parent(original)
        os.link(old, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def remove_file(self, path: str) -> None:
        """Remove a file."""
        parent, name = self._open_parent(path)
        os.unlink(name, dir_fd=parent)

    def ensure_directory(self, path: str) -> None:
        """Make a directory, and those that it is in, where they are missing."""
        here = os.dup(self._root)
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
        """Write a file, or another in its place, in one step and flushed."""
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
        """Remove a directory with all that is in it; links in it are removed, not followed."""
        parent, name = self._open_parent(path)
        shutil.rmtree(name, dir_fd=parent)
        os.fsync(parent)

    def remove_directory(self, path: str) -> None:
        """Remove a directory that is empty."""
        parent, name = self._open_parent(path)
        os.rmdir(name, dir_fd=parent)

    def duplicate_descriptor(self) -> int:
        """Return another descriptor of the directory; the caller closes it."""
        return os.dup(self._root)

    def is_writable(self) -> bool:
        """Tell whether entries can be made here by the user that runs."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self._root, effective_ids=True)

    def stat_filesystem(self) -> os.statvfs_result:
        """Return the statistics of the file system, such as its free space."""
        return os.fstatvfs(self._root)

    def open_directory(self, path: str) -> DirectoryHandle:
        """Open a directory below this one."""
        return DirectoryHandle(self._open_below(path))

    def move_entry(self, path: str, other: DirectoryHandle, new: str) -> None:
        """Move an entry below another directory of the same file system."""
        parent, name = self._open_parent(path)
        there, new_name = other._open_parent(new)
        os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=there)

    def stat_entry(self, path: str) -> os.stat_result:
        """Look at an entry itself; the empty path is the directory."""
        if not path:
            return os.fstat(self._root)
        parent, name = self._open_parent(path)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def read_link(self, path: str) -> str:
        """Read where a symbolic link leads to."""
        parent, name = self._open_parent(path)
        return os.readlink(name, dir_fd=parent)

    @contextlib.contextmanager
    def scan_directory(self, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Open a directory to read its entries."""
        descriptor = self._open_below(path)
        try:
            with os.scandir(descriptor) as items:
                yield items
        finally:
            os.close(descriptor)

    def set_owner(self, path: str, uid: int, gid: int) -> None:
        """Give an entry, not what a link leads to, its owner and group."""
        parent, name = self._open_parent(path) if path else (self._root, ".")
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    def set_modification_time(self, path: str, mtime_ns: int) -> None:
        """Give an entry, not what a link leads to, the time at which it was last written."""
        parent, name = self._open_parent(path) if path else (self._root, ".")
        times = (mtime_ns, mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def flush_entries(self) -> None:
        """Flush the names of this directory."""
        os.fsync(self._root)

    def sync_filesystem(self) -> None:
        """Flush the whole file system: one wait for thousands of entries."""
        sync_open_filesystem(self._root)
