"""Survey and contents of a directory, the index of a snapshot, and their comparison."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.directory_handle import DirectoryHandle

#: Path of the directory itself.
ROOT_PATH = ""


class SnapshotMethod(StrEnum):
    """Method by which a file is saved."""

    LINK = "link"  # hard link: protects from renames and deletion, not from writes into the file
    CLONE = "clone"  # shares blocks until one of both files is written; XFS, Btrfs
    COPY = "copy"  # a full copy


class FileKind(StrEnum):
    """Kind of an entry."""

    FILE = "f"
    DIRECTORY = "d"
    LINK = "l"
    OTHER = "o"  # a socket, a pipe, a device: recorded, never touched


class DirectoryEntry(NamedTuple):
    """State of one entry of a directory when it was read."""

    kind: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    target: str = ""


#: Entries by path below the directory; a directory comes before its contents.
DirectoryIndex = dict[str, DirectoryEntry]


def make_entry(status: os.stat_result, target: str = "") -> DirectoryEntry:
    """Return an entry for the result of a stat; pure."""
    mode = status.st_mode
    kind = FileKind.OTHER
    if stat.S_ISREG(mode):
        kind = FileKind.FILE
    elif stat.S_ISDIR(mode):
        kind = FileKind.DIRECTORY
    elif stat.S_ISLNK(mode):
        kind = FileKind.LINK
    return DirectoryEntry(
        kind.value, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        stat.S_IMODE(mode), status.st_uid, status.st_gid, target,
    )  # fmt: skip


def read_directory(below: DirectoryHandle) -> DirectoryIndex:
    """Read all entries below a directory, following no link; entries that vanish are left out.

    Raises:
        OSError: If a path cannot be read, or another file system is mounted below.
    """
    top = below.stat_entry(ROOT_PATH)
    found: DirectoryIndex = {ROOT_PATH: make_entry(top)}
    waiting = [ROOT_PATH]
    while waiting:
        at = waiting.pop()
        try:
            with below.scan_directory(at) as items:
                for item in items:
                    path = f"{at}/{item.name}" if at else item.name
                    try:
                        seen = item.stat(follow_symlinks=False)
                        target = below.read_link(path) if stat.S_ISLNK(seen.st_mode) else ""
                    except FileNotFoundError:
                        continue
                    if seen.st_dev != top.st_dev:
                        raise OSError(f"another file system is mounted at {path}")
                    found[path] = make_entry(seen, target)
                    if stat.S_ISDIR(seen.st_mode):
                        waiting.append(path)
        except (FileNotFoundError, NotADirectoryError):
            if not at:
                raise
            found.pop(at, None)
    return found


def has_same_content(recorded: DirectoryEntry, now: DirectoryEntry) -> bool:
    """Tell whether a file has kept its size and modification time; pure."""
    return recorded.kind == now.kind and (recorded.size, recorded.mtime_ns) == (
        now.size,
        now.mtime_ns,
    )


def is_unchanged(recorded: DirectoryEntry, now: DirectoryEntry, method: SnapshotMethod) -> bool:
    """Tell whether the saved copy of an entry is still valid; pure.

    Args:
        recorded: Its recorded state.
        now: Its present state.
        method: The method of the snapshot. A new hard link changes the file's own ctime.
    """
    if recorded.kind != now.kind:
        return False
    if now.kind != FileKind.FILE:
        return now.kind != FileKind.LINK or recorded.target == now.target
    if recorded.inode != now.inode:
        return False
    if method is SnapshotMethod.LINK:
        return True
    return has_same_content(recorded, now) and recorded.ctime_ns == now.ctime_ns


def find_gone_and_moved(
    was: Mapping[str, DirectoryEntry], now: Mapping[str, DirectoryEntry]
) -> tuple[set[str], set[str]]:
    """Return the files that disappeared and those that moved; pure.

    Args:
        was: The previous index.
        now: The present index.

    Returns:
        Previous paths. A moved file has the same inode, unwritten, under another path.
    """
    present = {entry.inode: entry for entry in now.values() if entry.kind == FileKind.FILE}
    gone: set[str] = set()
    moved: set[str] = set()
    for path, entry in was.items():
        if entry.kind != FileKind.FILE or path in now:
            continue
        elsewhere = present.get(entry.inode)
        (moved if elsewhere and has_same_content(entry, elsewhere) else gone).add(path)
    return gone, moved


def encode_index(index: Mapping[str, DirectoryEntry]) -> bytes:
    """Return an index as lines of JSON, and the number of entries; names may be any bytes."""
    lines = [json.dumps([path, *entry]) for path, entry in index.items()]
    return "\n".join([*lines, json.dumps(len(lines)), ""]).encode("ascii")


def decode_index(content: bytes) -> DirectoryIndex:
    """Parse the output of :func:`encode_index`.

    Raises:
        ValueError: If it is anything else, or incomplete.
    """
    lines = content.decode("ascii").splitlines()
    rows: Iterable[list[object]] = parse_json(f"[{','.join(lines[:-1])}]")
    if not lines or parse_json(lines[-1]) != len(lines) - 1:
        raise ValueError("truncated index")
    index: DirectoryIndex = {}
    for path, kind, *numbers, target in rows:
        if not isinstance(path, str) or len(numbers) != 7 or not isinstance(target, str):
            raise ValueError("invalid entry in the index")
        inode, size, mtime, ctime, mode, uid, gid = (int(str(number)) for number in numbers)
        known = FileKind(str(kind)).value
        index[path] = DirectoryEntry(known, inode, size, mtime, ctime, mode, uid, gid, target)
    return index


FICLONE = 0x40049409
TREE_DIRECTORY, PREPARED_INDEX, FINAL_INDEX, QUARANTINE_PREFIX, WRITTEN_LIST_PREFIX = (
    "tree",
    "prepared",
    "index",
    "quarantine-",
    "written-",
)


def get_snapshot_directory(directory: Path) -> Path:
    """Return the hidden directory for snapshots, beside the directory itself; pure."""
    return directory.with_name(f".{directory.name}.ncen-snapshots")


def _supports_clones(directory: int) -> bool:
    """Test with two unnamed files whether blocks can be shared here."""
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
    """Choose the method for files of this directory. Leaves no files behind.

    Args:
        directory: The directory to save.
        independent: Whether the operator wants copies if blocks cannot be shared.

    Raises:
        OSError: If the parent directory cannot be opened.
    """
    with DirectoryHandle.open_without_symlinks(directory.parent) as parent:
        if _supports_clones(parent.descriptor):
            return SnapshotMethod.CLONE
    return SnapshotMethod.COPY if independent else SnapshotMethod.LINK


@dataclass(frozen=True)
class DirectorySurvey:
    """Size and contents of a directory.

    Attributes:
        files: Number of files.
        directories: Number of directories.
        size_bytes: Bytes of all files.
        free_bytes: Free bytes of the file system.
        free_inodes: Free inodes; None if it has no fixed number.
    """

    files: int
    directories: int
    size_bytes: int
    free_bytes: int
    free_inodes: int | None


def _read_mount_id(below: DirectoryHandle) -> str:
    """Return the mount id of a directory: hard links cannot cross mounts."""
    lines = Path(f"/proc/self/fdinfo/{below.descriptor}").read_text("ascii").splitlines()
    return next((line for line in lines if line.startswith("mnt_id:")), "")


def is_owned_by_agent(status: os.stat_result) -> bool:
    """Tell whether a directory belongs only to the agent's user."""
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return private and stat.S_ISDIR(status.st_mode)


def survey_directory(directory: Path) -> DirectorySurvey:
    """Survey a directory before it is saved. Changes nothing.

    Raises:
        OSError: With the reason why it cannot be saved.
    """
    with (
        DirectoryHandle.open_without_symlinks(directory) as live,
        DirectoryHandle.open_without_symlinks(directory.parent) as parent,
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
        filesystem = parent.stat_filesystem()
        entries = read_directory(live).values()
        files = [entry for entry in entries if entry.kind == FileKind.FILE]
        return DirectorySurvey(
            len(files),
            sum(entry.kind == FileKind.DIRECTORY for entry in entries),
            sum(entry.size for entry in files),
            filesystem.f_bavail * filesystem.f_frsize,
            filesystem.f_favail if filesystem.f_files else None,
        )


def list_leftovers(directory: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return changes with quarantined files, and changes with a list of overwritten files.

    Changes nothing; unreadable directories are left out.
    """
    try:
        with (
            DirectoryHandle.open_without_symlinks(get_snapshot_directory(directory)) as snapshots,
            snapshots.scan_directory(ROOT_PATH) as items,
        ):
            names = sorted(item.name for item in items)
    except OSError:
        return (), ()
    quarantined, overwritten = (
        tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))
        for prefix in (QUARANTINE_PREFIX, WRITTEN_LIST_PREFIX)
    )
    return quarantined, overwritten
