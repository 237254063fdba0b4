"""Room on a disk, asked for before work begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from ncen_updater.common.errors import SpaceShort

__all__ = ["MARGIN_BYTES", "require_space", "space_short"]

MARGIN_BYTES = 16 << 20  # so that the journal beside it can still be written


def require_space(directory: Path, needed: int) -> None:
    """Refuse work that the disk has no room for.

    Raises:
        SpaceShort: With the figures.
    """
    free = shutil.disk_usage(directory).free
    if needed + MARGIN_BYTES > free:
        raise space_short(directory, needed)


def space_short(directory: Path, needed: int) -> SpaceShort:
    """Return the refusal of work that needs more room than there is, with the figures."""
    free = shutil.disk_usage(directory).free
    total = needed + MARGIN_BYTES
    return SpaceShort(path=directory, needed=total, free=free, missing=max(total - free, 1))
