"""Who has a file open: the kernel's list of open files, and SQLite's own locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.adapters.databases.sqlite.plain import open_regular_file

# Where SQLite locks a file: PENDING, RESERVED and the SHARED range (sqlite.org/fileformat2.html).
LOCK_START = 0x4000_0000
LOCK_BYTES = 512
CAP_SYS_PTRACE = 19  # linux/capability.h


@dataclass(frozen=True)
class OpenFileHolder:
    """A process that has one of the files open; ``name`` as the kernel calls it."""

    pid: int
    name: str
    file: str


def find_holders(files: Sequence[Path], proc: Path = Path("/proc")) -> tuple[OpenFileHolder, ...]:
    """Return the processes that have any of the files open, as far as we may see them.

    Args:
        files: Files that exist; others are passed over.
        proc: The kernel's directory of processes.
    """
    wanted: dict[tuple[int, int], str] = {}
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            wanted[info.st_dev, info.st_ino] = path.name
    found = []
    for descriptors in proc.glob("[0-9]*/fd"):
        # A process may end while it is looked at, and those of others are closed to us.
        with contextlib.suppress(OSError):
            seen = set()
            for entry in os.scandir(descriptors):
                with contextlib.suppress(OSError):
                    info = entry.stat()
                    name = wanted.get((info.st_dev, info.st_ino))
                    if name:
                        seen.add(name)
            if seen:
                process = descriptors.parent
                called = (process / "comm").read_text("utf-8", "replace").strip()
                found += [OpenFileHolder(int(process.name), called, name) for name in sorted(seen)]
    return tuple(sorted(found, key=lambda item: (item.pid, item.file)))


def can_see_other_users(proc: Path = Path("/proc")) -> bool:
    """Whether :func:`find_holders` sees the files of other users' processes.

    The kernel shows them to who may trace these processes. The service may not, nor may an ordinary
    user, and being root is not enough; an empty answer then says nothing.
    """
    for line in (proc / "self" / "status").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_SYS_PTRACE & 1)
    return False


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock of SQLite on a database file.

    It finds what the list of open files hides from a user without privileges: a transaction, or in
    WAL mode any connection. Nothing is read or written. Do not call it while this process has the
    database open: closing the file drops all our locks on it.
    """
    with open_regular_file(path, os.O_RDWR) as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, LOCK_START)
        except OSError:
            return True
        fcntl.lockf(stream, fcntl.LOCK_UN, LOCK_BYTES, LOCK_START)
    return False
