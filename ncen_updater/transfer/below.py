"""Entries below one directory: no name leads out of it, whatever is planted meanwhile.

Every path is walked one part after the other, relative to an open directory, and no link is
followed. Paths are relative, with ``/`` between parts; whether they are plain is checked before.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
from pathlib import Path

from ncen_updater.release.tree import EntryType, Tree

__all__ = ["Below"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Below:
    """Opens and creates entries below one directory without ever following a link.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, DIRECTORY)
        self._parent: tuple[str, int] | None = None

    def close(self) -> None:
        """Let go of the directory."""
        self._forget()
        os.close(self._root)

    def _forget(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _enter(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the directory of a path, and the last part of the path."""
        directory, _, name = path.rpartition("/")
        if self._parent is None or self._parent[0] != directory:
            self._forget()
            self._parent = (directory, self._walk(directory))
        return self._parent[1], name

    def _walk(self, directory: str) -> int:
        here = os.dup(self._root)
        for part in directory.split("/") if directory else ():
            try:
                below = os.open(part, DIRECTORY, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    def make(self, path: str) -> None:
        """Make a directory that only its owner may use, until its mode is set."""
        parent, name = self._enter(path)
        os.mkdir(name, 0o700, dir_fd=parent)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        parent, name = self._enter(path)
        os.symlink(target, name, dir_fd=parent)

    def create(self, path: str) -> int:
        """Make a file that is not there yet; return a descriptor to write to it."""
        parent, name = self._enter(path)
        return os.open(name, NEW_FILE, 0o600, dir_fd=parent)

    def set_mode(self, path: str, mode: int) -> None:
        """Give a directory its permissions, once everything is in it."""
        descriptor = self._walk(path)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def open(self, path: str) -> int:
        """Open a file that is there; return a descriptor to read from it."""
        parent, name = self._enter(path)
        return os.open(name, OLD_FILE, dir_fd=parent)

    def hard_link(self, path: str, source: Below, original: str) -> os.stat_result:
        """Give a file below another directory a name here too; return what that name leads to."""
        parent, name = self._enter(path)
        there, old = source._enter(original)
        os.link(old, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file."""
        parent, name = self._enter(path)
        os.unlink(name, dir_fd=parent)

    def ensure(self, path: str) -> None:
        """Make a directory, and those that it is in, where they are missing."""
        here = os.dup(self._root)
        try:
            for part in path.split("/"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                    os.fsync(here)
                below = os.open(part, DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
        finally:
            os.close(here)

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, or another in its place, in one step and flushed."""
        parent, name = self._enter(path)
        temporary = f".{name}.partial-{secrets.token_hex(4)}"
        descriptor = os.open(temporary, NEW_FILE, 0o644, dir_fd=parent)
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
        parent, name = self._enter(path)
        shutil.rmtree(name, dir_fd=parent)
        os.fsync(parent)

    def flush(self, tree: Tree) -> None:
        """Flush everything to the disk: one ``syncfs`` where the C library has it."""
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is not None:
            if syncfs(self._root) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            return
        for entry in tree.entries:
            if entry.type is not EntryType.SYMLINK:
                parent, name = self._enter(entry.path)
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        os.fsync(self._root)
