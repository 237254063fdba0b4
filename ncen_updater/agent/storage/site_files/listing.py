"""What is in a directory, the index of a kept tree, and how the two are compared."""

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
ROOT = ""


class Method(StrEnum):
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


class Entry(NamedTuple):
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
Index = dict[str, Entry]


def entry_of(found: os.stat_result, target: str = "") -> Entry:
    """Return what a look found as an entry; pure."""
    mode = found.st_mode
    kind = FileKind.OTHER
    if stat.S_ISREG(mode):
        kind = FileKind.FILE
    elif stat.S_ISDIR(mode):
        kind = FileKind.DIRECTORY
    elif stat.S_ISLNK(mode):
        kind = FileKind.LINK
    return Entry(
        kind.value, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns,
        stat.S_IMODE(mode), found.st_uid, found.st_gid, target,
    )  # fmt: skip


def walk(below: DirectoryHandle) -> Index:
    """Look at everything below a directory, following no link; what vanishes is not there.

    Raises:
        OSError: If something cannot be read, or another file system is mounted below.
    """
    top = below.stat(ROOT)
    found: Index = {ROOT: entry_of(top)}
    waiting = [ROOT]
    while waiting:
        at = waiting.pop()
        try:
            with below.scan(at) as items:
                for item in items:
                    path = f"{at}/{item.name}" if at else item.name
                    try:
                        seen = item.stat(follow_symlinks=False)
                        target = below.target(path) if stat.S_ISLNK(seen.st_mode) else ""
                    except FileNotFoundError:
                        continue
                    if seen.st_dev != top.st_dev:
                        raise OSError(f"another file system is mounted at {path}")
                    found[path] = entry_of(seen, target)
                    if stat.S_ISDIR(seen.st_mode):
                        waiting.append(path)
        except (FileNotFoundError, NotADirectoryError):
            if not at:
                raise
            found.pop(at, None)
    return found


def same_content(was: Entry, now: Entry) -> bool:
    """Whether a file was written since, as far as size and time tell; pure."""
    return was.kind == now.kind and (was.size, was.mtime_ns) == (now.size, now.mtime_ns)


def unchanged(was: Entry, now: Entry, method: Method) -> bool:
    """Whether what was kept of an entry still holds; pure.

    Args:
        was: As it was when it was kept.
        now: As it is.
        method: How it was kept. Giving a file a second name changes its own ctime.
    """
    if was.kind != now.kind:
        return False
    if now.kind != FileKind.FILE:
        return now.kind != FileKind.LINK or was.target == now.target
    if was.inode != now.inode:
        return False
    if method is Method.LINK:
        return True
    return same_content(was, now) and was.ctime_ns == now.ctime_ns


def gone_and_moved(was: Mapping[str, Entry], now: Mapping[str, Entry]) -> tuple[set[str], set[str]]:
    """Of the files that are no longer where they were: those that are gone, those that moved; pure.

    Args:
        was: The index of before.
        now: What is there.

    Returns:
        Paths of before; a file moved where it lies, unwritten, under another name.
    """
    there = {entry.inode: entry for entry in now.values() if entry.kind == FileKind.FILE}
    gone: set[str] = set()
    moved: set[str] = set()
    for path, entry in was.items():
        if entry.kind != FileKind.FILE or path in now:
            continue
        elsewhere = there.get(entry.inode)
        (moved if elsewhere and same_content(entry, elsewhere) else gone).add(path)
    return gone, moved


def write_index(index: Mapping[str, Entry]) -> bytes:
    """Return an index as lines of JSON, the number of entries last; names of any bytes survive."""
    lines = [json.dumps([path, *entry]) for path, entry in index.items()]
    return "\n".join([*lines, json.dumps(len(lines)), ""]).encode("ascii")


def read_index(content: bytes) -> Index:
    """Read what :func:`write_index` wrote.

    Raises:
        ValueError: If it is anything else, or not whole.
    """
    lines = content.decode("ascii").splitlines()
    rows: Iterable[list[object]] = parse_json(f"[{','.join(lines[:-1])}]")
    if not lines or parse_json(lines[-1]) != len(lines) - 1:
        raise ValueError("the index is not whole")
    index: Index = {}
    for path, kind, *numbers, target in rows:
        if not isinstance(path, str) or len(numbers) != 7 or not isinstance(target, str):
            raise ValueError("the index holds what is no entry")
        inode, size, mtime, ctime, mode, uid, gid = (int(str(number)) for number in numbers)
        known = FileKind(str(kind)).value
        index[path] = Entry(known, inode, size, mtime, ctime, mode, uid, gid, target)
    return index
