"""Read-only trees of the agent: only root can delete its slots and retained databases."""

from __future__ import annotations

import itertools
import os
import stat
import uuid
from pathlib import Path


def remove_tree(place: Path) -> None:
    """Remove a directory with everything in it, also from read-only directories.

    Only directories become writable: a file may be a link to that of a tree which stays. Each is
    moved to the top before it is scanned, for a tree may be deeper than a path may be long.
    Does nothing where there is nothing.
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
