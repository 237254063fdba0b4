"""Room on a disk, asked for before work begins."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ncen_updater.common.errors import InsufficientSpaceError, causes
from ncen_updater.common.messages import DISK_FULL

SQLITE_FULL = 13

MARGIN_BYTES = 16 << 20  # so that the journal beside it can still be written


def get_free_bytes(path: Path) -> int:
    """Return the bytes that an ordinary account may still write at a place.

    Raises:
        OSError: If it cannot be looked at.
    """
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize


def find_full(places: Iterable[Path]) -> tuple[Path, int] | None:
    """Return the first place where hardly anything can be written, with its free bytes.

    One that cannot be looked at is passed over.
    """
    for place in places:
        with contextlib.suppress(OSError):
            if (free := get_free_bytes(place)) < MARGIN_BYTES:
                return place, free
    return None


def require_space(directory: Path, needed_bytes: int) -> None:
    """Refuse work that the disk has no room for.

    Raises:
        InsufficientSpaceError: With the figures.
    """
    free = get_free_bytes(directory)
    if needed_bytes + MARGIN_BYTES > free:
        raise make_space_error(directory, needed_bytes)


def make_space_error(directory: Path, needed: int) -> InsufficientSpaceError:
    """Return the refusal of work that needs more room than there is, with the figures."""
    free = get_free_bytes(directory)
    total = needed + MARGIN_BYTES
    return InsufficientSpaceError(
        path=directory, needed_bytes=total, free_bytes=free, missing_bytes=max(total - free, 1)
    )


def is_closed_here(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Tell whether a path is read-only for this process alone, as the limits of a unit make it.

    A disk that the kernel made read-only, after an error or for good, is that for everybody.

    Args:
        path: An absolute path, there or not.
        mounts: The kernel's list of what this process sees; proc_pid_mountinfo(5).
    """
    closed, deepest = False, 0
    for line in mounts.read_text("utf-8", "surrogateescape").splitlines():
        ours, _, disk = line.partition(" - ")
        place, options = ours.split(" ")[4:6]
        place = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), place)
        # Of two at one place the later one counts.
        if len(place) >= deepest and path.is_relative_to(place):
            deepest = len(place)
            closed = "ro" in options.split(",") and "rw" in disk.split(" ")[2].split(",")
    return closed


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that a disk, or a person's share of it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "sqlite_errorcode", None)  # of SQLite, without importing it here
    return isinstance(code, int) and code & 0xFF == SQLITE_FULL


def find_disk_full_error(error: BaseException, place: object = "") -> InsufficientSpaceError | None:
    """Return the error in our words where a full disk is behind it, however deep; else None.

    Args:
        error: What nobody else has words for.
        place: What was written, where the error itself does not tell.
    """
    for here in filter(is_disk_full, causes(error)):
        return InsufficientSpaceError(
            DISK_FULL, path=getattr(here, "filename", None) or place or "-"
        )
    return None
