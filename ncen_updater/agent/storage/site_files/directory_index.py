"""Contents of a directory, the index of a retained tree, and their comparison."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.directory_handle import DirectoryHandle

#: The path of the directory itself.
ROOT_PATH = ""


class SnapshotMethod(StrEnum):
    """How a file is kept."""

    LINK = "link"  # a second name: safe from renames and deletion, not from writing into the file
    CLONE = "clone"  # shares blocks until one of the two is written; XFS, Btrfs
    COPY = "copy"  # all bytes


class FileKind(StrEnum):
    """What an entry is."""

    FILE = "f"
    DIRECTORY = "d"
    LINK = "l"
    OTHER = "o"  # a socket, a pipe, a device: known, never touched


class DirectoryEntry(NamedTuple):
    """One entry of a directory, as it was when it was looked at."""

    kind: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    target: str = ""


#: By path below the directory; what a directory holds comes after it.
DirectoryIndex = dict[str, DirectoryEntry]


def make_entry(status: os.stat_result, target: str = "") -> DirectoryEntry:
    """Return what a look found as an entry; pure."""
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
    """Look at everything below a directory, following no link; what vanishes is not there.

    Raises:
        OSError: If something cannot be read, or another file system is mounted below.
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
    """Tell whether a file was written since, as far as size and time tell; pure."""
    return recorded.kind == now.kind and (recorded.size, recorded.mtime_ns) == (
        now.size,
        now.mtime_ns,
    )


def is_unchanged(recorded: DirectoryEntry, now: DirectoryEntry, method: SnapshotMethod) -> bool:
    """Tell whether what was kept of an entry still holds; pure.

    Args:
        recorded: As it was when it was kept.
        now: As it is.
        method: How it was kept. Giving a file a second name changes its own ctime.
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
    """Of the files that are no longer where they were: those that are gone, those that moved; pure.

    Args:
        was: The previous index.
        now: What is there.

    Returns:
        Previous paths; a file moved where it lies, unwritten, under another name.
    """
    there = {entry.inode: entry for entry in now.values() if entry.kind == FileKind.FILE}
    gone: set[str] = set()
    moved: set[str] = set()
    for path, entry in was.items():
        if entry.kind != FileKind.FILE or path in now:
            continue
        elsewhere = there.get(entry.inode)
        (moved if elsewhere and has_same_content(entry, elsewhere) else gone).add(path)
    return gone, moved


def encode_index(index: Mapping[str, DirectoryEntry]) -> bytes:
    """Return an index as lines of JSON, the number of entries last; names of any bytes survive."""
    lines = [json.dumps([path, *entry]) for path, entry in index.items()]
    return "\n".join([*lines, json.dumps(len(lines)), ""]).encode("ascii")


def decode_index(content: bytes) -> DirectoryIndex:
    """Read what :func:`encode_index` wrote.

    Raises:
        ValueError: If it is anything else, or not whole.
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
