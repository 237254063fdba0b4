"""Removal of read-only trees, such as the agent's slots and retained databases."""

from __future__ import annotations

import itertools
import os
import stat
import uuid
from pathlib import Path


def remove_tree(place: Path) -> None:
    """Remove a directory with all its contents, including read-only directories.

    Only directories are made writable: a file may be a hard link to one of a tree that remains.
    Each directory is moved to the top before it is scanned, because nested paths may exceed the
    maximum path length. Does nothing if the directory does not exist.
    """
    if not place.exists():
        return
    names = (place / f"{uuid.uuid4().hex}-{number}" for number in itertools.count())
    _open(place)
    left = [place]
    while left:
        directory = left[-1]
        before = len(left)
        with os.scandir(directory) as entries:
            found = [(Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_directory in found:
            if is_directory:
                _open(path)
                left.append(path if directory == place else path.rename(next(names)))
            else:
                path.unlink()
        if len(left) == before:
            directory.rmdir()
            left.pop()


def _open(directory: Path) -> None:
    directory.chmod(directory.lstat().st_mode | stat.S_IRWXU)
