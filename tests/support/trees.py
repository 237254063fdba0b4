"""Trees that the agent froze: its slots and kept databases bar everybody but root from deleting."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

__all__ = ["remove_tree"]


def remove_tree(place: Path) -> None:
    """Remove a directory with everything in it, also from directories that nobody may write to.

    Only directories become writable: a file may be a link to that of a tree which stays. Does
    nothing where there is nothing.
    """
    if not place.exists():
        return
    _open(place)
    shutil.rmtree(place)


def _open(place: Path) -> None:
    place.chmod(place.lstat().st_mode | stat.S_IRWXU)
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            _open(path)
