"""Free disk space, checked before work begins."""

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

MARGIN_BYTES = 16 << 20  # lets the journal on the same disk be written


def get_free_bytes(path: Path) -> int:
    """Return the free bytes for an unprivileged user at a path.

    Raises:
        OSError: If the path cannot be accessed.
    """
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize


def find_full(places: Iterable[Path]) -> tuple[Path, int] | None:
    """Return the first path on a full disk, with its free bytes.

    Paths that cannot be accessed are skipped.
    """
    for place in places:
        with contextlib.suppress(OSError):
            if (free := get_free_bytes(place)) < MARGIN_BYTES:
                return place, free
    return None


def require_space(directory: Path, needed_bytes: int) -> None:
    """Raise if the disk has too little space for an operation.

    Raises:
        InsufficientSpaceError: With the needed and free bytes.
    """
    free = get_free_bytes(directory)
    if needed_bytes + MARGIN_BYTES > free:
        raise make_space_error(directory, needed_bytes)


def make_space_error(directory: Path, needed: int) -> InsufficientSpaceError:
    """Return the error for an operation that needs more space, with needed and free bytes."""
    free = get_free_bytes(directory)
    total = needed + MARGIN_BYTES
    return InsufficientSpaceError(
        path=directory, needed_bytes=total, free_bytes=free, missing_bytes=max(total - free, 1)
    )


def is_closed_here(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a path is read-only for this process only, as a systemd unit can make it.

    A file system that the kernel made read-only is read-only for all processes.

    Args:
        path: An absolute path; it need not exist.
        mounts: The kernel's list of mounts of this process; see proc_pid_mountinfo(5).
    """
    closed, deepest = False, 0
    for line in mounts.read_text("utf-8", "surrogateescape").splitlines():
        ours, _, disk = line.partition(" - ")
        place, options = ours.split(" ")[4:6]
        place = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), place)
        # Of two mounts at one path the later one is effective.
        if len(place) >= deepest and path.is_relative_to(place):
            deepest = len(place)
            closed = "ro" in options.split(",") and "rw" in disk.split(" ")[2].split(",")
    return closed


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error reports a full disk or an exhausted quota."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # the code of a SQLite error, without importing sqlite3
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF == SQLITE_FULL


def find_disk_full_error(error: BaseException, place: object = "") -> InsufficientSpaceError | None:
    """Return an ``InsufficientSpaceError`` if a full disk is among an error's causes; else None.

    Args:
        error: An error without a message of its own.
        place: The path that was written, if the error does not name it.
    """
    for here in filter(is_disk_full, causes(error)):
        return InsufficientSpaceError(
            DISK_FULL, path=getattr(here, "filename", None) or place or "-"
        )
    return None
