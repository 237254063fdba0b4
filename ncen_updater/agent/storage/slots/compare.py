"""Compare a directory with the entries of a tree, an entry at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ncen_updater.formats.tree import WRITE_BITS, EntryType, TreeEntry, get_sealed_mode, hash_file


class DifferenceKind(StrEnum):
    """In what a path differs from the release."""

    MISSING = "missing"
    EXTRA = "extra"
    TYPE = "type"
    MODE = "mode"
    CONTENT = "content"
    TARGET = "target"


@dataclass(frozen=True)
class SlotDifference:
    """One path that is not as the release says.

    Attributes:
        path: Relative to the slot.
        kind: In what it differs.
        expected: What the release says, in short.
        actual: What is there, in short.
    """

    path: str
    kind: DifferenceKind
    expected: str = ""
    actual: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}"


def _name_type(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return EntryType.SYMLINK.value
    if stat.S_ISDIR(mode):
        return EntryType.DIRECTORY.value
    return EntryType.FILE.value if stat.S_ISREG(mode) else "special"


def _compare_entry(
    root: Path,
    entry: TreeEntry,
    *,
    full: bool,
    sealed: bool,
    on_bytes: Callable[[int], None] | None,
) -> SlotDifference | None:
    path = f"{root}/{entry.path}"  # there are many; a Path takes longer to make than to look at
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return SlotDifference(entry.path, DifferenceKind.MISSING, entry.type.value)
    kind = _name_type(info.st_mode)
    if kind != entry.type.value:
        return SlotDifference(entry.path, DifferenceKind.TYPE, entry.type.value, kind)
    if entry.type is EntryType.SYMLINK:
        target = str(Path(path).readlink())
        if target != entry.target:
            return SlotDifference(entry.path, DifferenceKind.TARGET, entry.target or "", target)
        return None
    if entry.type is EntryType.FILE:
        if info.st_size != entry.size:
            return SlotDifference(
                entry.path,
                DifferenceKind.CONTENT,
                f"{entry.size} bytes",
                f"{info.st_size} bytes",
            )
        found = hash_file(Path(path), on_bytes) if full else entry.sha256
        if found != entry.sha256:
            return SlotDifference(
                entry.path, DifferenceKind.CONTENT, entry.sha256 or "", found or ""
            )
    mode = stat.S_IMODE(info.st_mode)
    wanted = get_sealed_mode(entry) if sealed else entry.mode
    ignored = 0 if sealed or entry.type is not EntryType.FILE else WRITE_BITS
    if mode & ~ignored != wanted & ~ignored:
        return SlotDifference(entry.path, DifferenceKind.MODE, f"{wanted:04o}", f"{mode:04o}")
    return None


def _walk_directory(root: Path, prefix: str = "") -> Iterator[str]:
    with os.scandir(root) as items:
        for item in items:
            path = f"{prefix}{item.name}"
            yield path
            if item.is_dir(follow_symlinks=False):
                yield from _walk_directory(Path(item.path), f"{path}/")


def compare_tree(
    root: Path,
    entries: Iterable[TreeEntry],
    *,
    check_content: bool = True,
    check_read_only: bool = True,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[SlotDifference]:
    """Yield every path of a directory that is not as the entries say.

    Holds the paths of the tree in memory, and nothing else of it.

    Args:
        root: The directory.
        entries: What should be there.
        check_content: Hash every file; otherwise types, sizes, modes and links only.
        check_read_only: Files must have no write permission; otherwise theirs are not looked at.
        on_bytes: Told the number of bytes that were hashed.

    Raises:
        OSError: If something that is there cannot be read.
    """
    known: set[str] = set()
    for entry in entries:
        known.add(entry.path)
        difference = _compare_entry(
            root, entry, full=check_content, sealed=check_read_only, on_bytes=on_bytes
        )
        if difference:
            yield difference
    for path in _walk_directory(root):
        if path not in known:
            yield SlotDifference(path, DifferenceKind.EXTRA)
