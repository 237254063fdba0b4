"""What the files of a set were at a moment, so that whoever writes to them later is noticed.

Who has a file open cannot be asked: the service that works on a site sees no other user's
processes. So the files themselves are asked. Every write changes the times of a file, and SQLite's
own counters in its first bytes; a checkpoint changes the main file and a write in WAL mode the WAL.
An empty WAL or journal says nothing: a mere reader makes one and removes it.

The notes are kept where only the agent writes, since what another user can write is not to be
believed. They are made before the first copy and compared as the last thing before a link moves.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import DatabaseMarker
from ncen_updater.agent.adapters.databases.sqlite.layout import DATABASE_SUFFIX, DatabaseSets
from ncen_updater.agent.adapters.databases.sqlite.plain import open_regular_file
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.messages import FENCED_FILES_CHANGED
from ncen_updater.common.records import JsonRecord

DATABASE_HEADER_BYTES = 100  # the header: change counter, version-valid-for, size in pages
JOURNAL_HEADER_BYTES = 32  # the header of a WAL: number of the checkpoint, salts
# Two writes within one tick of the kernel's clock leave the same time; HZ is 100 or more.
TICK_NS = 20_000_000
MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class FileSnapshot(JsonRecord):
    """One file at a moment.

    Attributes:
        mtime_ns: When it was last written.
        ctime_ns: When it or its owner or modes were last changed, which nobody can set back; 0 of a
            WAL or journal.
        head: Its first bytes, in hexadecimal.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    head: str


@dataclass(frozen=True)
class SetSnapshot(JsonRecord):
    """The files of a set at a moment, by name."""

    set_name: str
    files: Mapping[str, FileSnapshot]


@dataclass(frozen=True)
class NoCopyRecord(JsonRecord):
    """What a set was before a change gave it to another release as it is.

    Attributes:
        marker: None where no agent ever cut over to it.
    """

    marker: DatabaseMarker | None = None


@dataclass(frozen=True)
class FenceRecord(JsonRecord):
    """What is known of a change's sets.

    Attributes:
        before: What was live, as it was fenced.
        copied: SHA-256 of each copied file whose original had a journal, once that was finished.
        after: What became live, as it was at the cut-over.
        newest: By database and table, the newest row that ``after`` had.
        counts: Likewise, how many it had.
        lent: What the set was, where the change leaves it as it is; None before it is marked.
    """

    before: SetSnapshot
    copied_digests: Mapping[str, str] = field(default_factory=dict)
    after: SetSnapshot | None = None
    newest_rowids: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    row_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    no_copy: NoCopyRecord | None = None


def snapshot_set(layout: DatabaseSets, set_path: Path) -> SetSnapshot:
    """Look at the files of a set. Reads a few bytes of each and writes nothing."""
    found: dict[str, FileSnapshot] = {}
    for name in layout.names:
        main = layout.file_path(set_path, name)
        for path in layout.list_files(set_path, name):
            with open_regular_file(path) as descriptor:
                info = os.fstat(descriptor)
                if path.name.endswith("-shm") or (path != main and not info.st_size):
                    continue
                head = os.pread(
                    descriptor, DATABASE_HEADER_BYTES if path == main else JOURNAL_HEADER_BYTES, 0
                )
            # Root gives a WAL to its database's owner, each time that it merely reads it.
            ctime_ns = info.st_ctime_ns if path == main else 0
            found[path.name] = FileSnapshot(
                info.st_ino, info.st_size, info.st_mtime_ns, ctime_ns, head.hex()
            )
    return SetSnapshot(set_path.name, found)


def find_journaled(layout: DatabaseSets, seen: SetSnapshot) -> tuple[str, ...]:
    """Logical names that had a WAL or a rollback journal with something in it."""
    return tuple(
        name
        for name in layout.names
        if any(file.startswith(f"{name}{DATABASE_SUFFIX}-") for file in seen.files)
    )


def _find_recent(times: Mapping[str, int], now: int) -> dict[str, int]:
    """Which of some times are not a tick ago, with their ages; those of tomorrow are old."""
    return {name: now - at for name, at in times.items() if 0 <= now - at < TICK_NS}


def snapshot_quiet_set(
    layout: DatabaseSets,
    set_path: Path,
    now_ns: Callable[[], int] = time.time_ns,
    wait: Callable[[float], None] = time.sleep,
) -> SetSnapshot:
    """Look at a set once the last write is a tick of the clock ago.

    A write right after the look would otherwise bear the time of the one before it.

    Raises:
        FENCED_FILES_CHANGED: Somebody writes all the time.
    """
    for _ in range(MAX_ATTEMPTS):
        young = _find_recent({path.name: path.lstat().st_mtime_ns
                        for name in layout.names
                        for path in layout.list_files(set_path, name)}, now_ns())  # fmt: skip
        if not young:
            seen = snapshot_set(layout, set_path)
            young = _find_recent(
                {name: item.mtime_ns for name, item in seen.files.items()}, now_ns()
            )
            if not young:
                return seen
        wait((TICK_NS - min(young.values())) / 1e9)
    raise DatabaseError(
        FENCED_FILES_CHANGED, database=set_path.name, files=", ".join(sorted(young))
    )


def find_changed_files(
    before: SetSnapshot, now: SetSnapshot, *, frozen: bool = False
) -> tuple[str, ...]:
    """Names of files that are not as they were; pure.

    Args:
        before: The older look.
        now: The newer one.
        frozen: Whether modes were changed since, by ourselves; writes are seen all the same.
    """

    def shown(seen: FileSnapshot | None) -> FileSnapshot | None:
        return dataclasses.replace(seen, ctime_ns=0) if seen and frozen else seen

    names = sorted({*before.files, *now.files})
    return tuple(n for n in names if shown(before.files.get(n)) != shown(now.files.get(n)))
