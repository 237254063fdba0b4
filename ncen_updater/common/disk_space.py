"""File systems: free space, checked before work begins, and copies that share blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from ncen_updater.common.errors import InsufficientSpaceError, causes
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import DISK_FULL

SQLITE_FULL = 13

#: Free bytes that every operation leaves, so that the journal on the same disk can be written.
MARGIN_BYTES = 16 << 20

MOUNTS = Path("/proc/self/mountinfo")
XFS_GEOMETRY, XFS_GEOMETRY_BYTES = 0x8100_587E, 256  # linux: XFS_IOC_FSGEOMETRY
XFS_FLAGS_AT, XFS_REFLINK = 92, 1 << 20
#: Advice if copies of databases cannot share blocks.
REFLINK_ADVICE = N_("Optional: move the databases to XFS or Btrfs.")


def get_free_bytes(path: Path) -> int:
    """Return the free bytes for an unprivileged user at a path.

    Raises:
        OSError: If the path cannot be accessed.
    """
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize


def find_full_path(paths: Iterable[Path]) -> tuple[Path, int] | None:
    """Return the first path on a full disk, with its free bytes.

    Paths that cannot be accessed are skipped.
    """
    for path in paths:
        with contextlib.suppress(OSError):
            if (free := get_free_bytes(path)) < MARGIN_BYTES:
                return path, free
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


def is_read_only_here(path: Path, mounts: Path = MOUNTS) -> bool:
    """Return whether a path is read-only for this process only, as a systemd unit can make it.

    A file system that the kernel made read-only is read-only for all processes.

    Args:
        path: An absolute path; it need not exist.
        mounts: The kernel's list of mounts of this process; see proc_pid_mountinfo(5).
    """
    read_only, deepest = False, 0
    for _, place, options, _, disk_options in _read_mounts(mounts):
        # Of two mounts at one path the later one is effective.
        if len(place) >= deepest and path.is_relative_to(place):
            deepest = len(place)
            read_only = "ro" in options.split(",") and "rw" in disk_options.split(",")
    return read_only


def _read_mounts(path: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield device number, path, options, file system type and its options of each mount."""
    # Neither read_text() nor splitlines(): of the characters at which they break lines, the kernel
    # escapes only the line feed in a name.
    for line in path.read_bytes().decode("utf-8", "surrogateescape").rstrip("\n").split("\n"):
        mount, _, disk = line.partition(" - ")
        device, _, place, options = mount.split(" ")[2:6]
        kind, _, disk_options = disk.split(" ")[:3]
        place = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), place)
        yield device, place, options, kind, disk_options


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


def supports_reflink(place: Path) -> bool:
    """Tell whether the file system of a directory can share blocks; False if unknown.

    Args:
        place: An accessible directory; it need not be readable.
    """
    try:
        device = place.stat().st_dev
        kind = _find_filesystem_type(place.resolve(), device)
        if kind == "btrfs":
            return True
        return kind == "xfs" and _xfs_supports_reflink(place, device)
    except (OSError, ValueError, IndexError, struct.error):
        return False


def _find_filesystem_type(place: Path, device: int) -> str:
    wanted = f"{os.major(device)}:{os.minor(device)}"
    above: list[tuple[int, str]] = []
    for number, point, _, kind, _ in _read_mounts(MOUNTS):
        if number == wanted:
            return kind
        if place.is_relative_to(point):
            above.append((len(Path(point).parts), kind))
    # Btrfs gives every subvolume its own device number, which is in no line.
    return max(above)[1] if above and max(above)[1] == "btrfs" else ""


def _xfs_supports_reflink(place: Path, device: int) -> bool:
    """Query XFS through the first directory, this one or a parent, that can be opened."""
    for directory in (place, *place.resolve().parents):
        if directory.stat().st_dev != device:
            break
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            continue
        try:
            value = fcntl.ioctl(descriptor, XFS_GEOMETRY, bytes(XFS_GEOMETRY_BYTES))
        finally:
            os.close(descriptor)
        return bool(struct.unpack_from("=I", value, XFS_FLAGS_AT)[0] & XFS_REFLINK)
    return False
