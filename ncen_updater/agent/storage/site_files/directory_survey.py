"""Survey of a directory before its files are retained: size, room and method; and leftovers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.storage.site_files.directory_index import (
    ROOT_PATH,
    FileKind,
    SnapshotMethod,
    read_directory,
)
from ncen_updater.common.directory_handle import DirectoryHandle

FICLONE = 0x40049409
TREE_DIRECTORY, PREPARED_INDEX, FINAL_INDEX, QUARANTINE_PREFIX, WRITTEN_LIST_PREFIX = (
    "tree",
    "prepared",
    "index",
    "aside-",
    "written-",
)


def get_snapshot_directory(directory: Path) -> Path:
    """Return the hidden directory for retained trees, beside the directory itself; pure."""
    return directory.with_name(f".{directory.name}.ncen-kept")


def _supports_clones(directory: int) -> bool:
    """Try with two files that have no name whether blocks can be shared here."""
    try:
        one = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=directory)
    except OSError:
        return False
    try:
        two = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=directory)
        try:
            os.write(one, b"\0" * 4096)
            fcntl.ioctl(two, FICLONE, one)
        finally:
            os.close(two)
    except OSError:
        return False
    finally:
        os.close(one)
    return True


def choose_snapshot_method(directory: Path, *, independent: bool) -> SnapshotMethod:
    """Say how files would be kept here. Leaves nothing behind.

    Args:
        directory: The directory that is kept.
        independent: Whether the operator wants copies where blocks cannot be shared.

    Raises:
        OSError: If the directory that it is in cannot be opened.
    """
    parent = DirectoryHandle.open_without_symlinks(directory.parent)
    try:
        descriptor = parent.duplicate_descriptor()
        try:
            if _supports_clones(descriptor):
                return SnapshotMethod.CLONE
        finally:
            os.close(descriptor)
    finally:
        parent.close()
    return SnapshotMethod.COPY if independent else SnapshotMethod.LINK


@dataclass(frozen=True)
class DirectorySurvey:
    """What a directory holds.

    Attributes:
        files: Number of files.
        directories: Number of directories.
        size_bytes: Of all files.
        free_bytes: Of the file system.
        free_inodes: Likewise; None where it has no fixed number.
    """

    files: int
    directories: int
    size_bytes: int
    free_bytes: int
    free_inodes: int | None


def _read_mount_id(below: DirectoryHandle) -> str:
    """Read which mount a directory is seen through: no name leads across two, even of one disk."""
    descriptor = below.duplicate_descriptor()
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii").splitlines()
    finally:
        os.close(descriptor)
    return next((line for line in lines if line.startswith("mnt_id:")), "")


def is_owned_by_agent(place: os.stat_result) -> bool:
    """Tell whether a directory belongs to the agent's user alone."""
    mine = place.st_uid == os.geteuid() and not place.st_mode & 0o077
    return mine and stat.S_ISDIR(place.st_mode)


def survey_directory(directory: Path) -> DirectorySurvey:
    """Look over a directory before it is kept. Changes nothing.

    Raises:
        OSError: With why it cannot be kept.
    """
    with (
        contextlib.closing(DirectoryHandle.open_without_symlinks(directory)) as live,
        contextlib.closing(DirectoryHandle.open_without_symlinks(directory.parent)) as parent,
    ):
        if (live.stat_entry(ROOT_PATH).st_dev, _read_mount_id(live)) != (
            parent.stat_entry(ROOT_PATH).st_dev,
            _read_mount_id(parent),
        ):
            raise OSError(f"a file system is mounted there; it has to hold {directory.parent} too")
        if not parent.is_writable():
            raise OSError(f"nothing can be written in {directory.parent}")
        with contextlib.suppress(FileNotFoundError):
            if not is_owned_by_agent(parent.stat_entry(get_snapshot_directory(directory).name)):
                raise OSError(f"{get_snapshot_directory(directory)} is somebody else's")
        room = parent.stat_filesystem()
        entries = read_directory(live).values()
        files = [entry for entry in entries if entry.kind == FileKind.FILE]
        return DirectorySurvey(
            len(files),
            sum(entry.kind == FileKind.DIRECTORY for entry in entries),
            sum(entry.size for entry in files),
            room.f_bavail * room.f_frsize,
            room.f_favail if room.f_files else None,
        )


def list_leftovers(directory: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List changes with quarantined files, and changes with a list of what cannot be undone.

    Changes nothing; what may not be read is left out.
    """
    try:
        with (
            contextlib.closing(
                DirectoryHandle.open_without_symlinks(get_snapshot_directory(directory))
            ) as place,
            place.scan_directory(ROOT_PATH) as items,
        ):
            names = sorted(item.name for item in items)
    except OSError:
        return (), ()
    aside, written = (
        tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))
        for prefix in (QUARANTINE_PREFIX, WRITTEN_LIST_PREFIX)
    )
    return aside, written
