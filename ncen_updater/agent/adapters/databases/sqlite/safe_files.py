"""Safe access to database files: no links followed; and processes that have a file open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DATABASE_SET_MISSING,
    FENCE_SNAPSHOT_UNREADABLE,
    NOT_A_DATABASE_SET,
    NOT_A_PLAIN_FILE,
)

# SQLite's lock bytes: PENDING, RESERVED and the SHARED range (sqlite.org/fileformat2.html).
LOCK_START = 0x4000_0000
LOCK_BYTES = 512
CAP_SYS_PTRACE = 19  # linux/capability.h
SETS_DIRECTORY = "sets"
COMPANION_SUFFIXES = ("-wal", "-shm", "-journal")
MASTER_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # sqlite.org/fileformat2.html, 3.
RECORD_BYTES = 65_536
FILE_BITS, DIRECTORY_BITS = 0o777, 0o3777
OPEN_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class OpenFileHolder:
    """Process that has one of the files open; ``name`` is its command name in the kernel."""

    pid: int
    name: str
    file: str


def find_holders(files: Sequence[Path], proc: Path = Path("/proc")) -> tuple[OpenFileHolder, ...]:
    """Return the visible processes that have any of the files open.

    Args:
        files: Files; missing ones are ignored.
        proc: The kernel's directory of processes.
    """
    wanted: dict[tuple[int, int], str] = {}
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            wanted[info.st_dev, info.st_ino] = path.name
    found = []
    for descriptors in proc.glob("[0-9]*/fd"):
        # A process may end meanwhile, and those of other users may not be readable.
        with contextlib.suppress(OSError):
            seen = set()
            for entry in os.scandir(descriptors):
                with contextlib.suppress(OSError):
                    info = entry.stat()
                    file = wanted.get((info.st_dev, info.st_ino))
                    if file:
                        seen.add(file)
            if seen:
                process = descriptors.parent
                name = (process / "comm").read_text("utf-8", "replace").strip()
                found += [OpenFileHolder(int(process.name), name, file) for file in sorted(seen)]
    return tuple(sorted(found, key=lambda item: (item.pid, item.file)))


def can_see_other_users(proc: Path = Path("/proc")) -> bool:
    """Tell whether :func:`find_holders` sees the open files of other users' processes.

    The kernel shows them only to a process that may trace theirs (CAP_SYS_PTRACE). The service and
    ordinary users may not, and root may lack the capability; then an empty result proves nothing.
    """
    for line in (proc / "self" / "status").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_SYS_PTRACE & 1)
    return False


def is_locked(path: Path) -> bool:
    """Tell whether another process holds a lock of SQLite on a database file.

    This finds processes that :func:`find_holders` cannot see without privileges: any with a
    transaction, or in WAL mode any with a connection. Nothing is read or written. Do not call it
    while this process has the database open: closing the file drops all locks of this process on
    it.
    """
    with open_regular_file(path, os.O_RDWR) as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, LOCK_START)
        except OSError:
            return True
        fcntl.lockf(stream, fcntl.LOCK_UN, LOCK_BYTES, LOCK_START)
    return False


def _find_configured_directory(path: Path) -> Path:
    """Return the configured directory of a path; its parents are the administrator's."""
    if path.parent.name == SETS_DIRECTORY:
        return path.parent.parent
    return path.parent if path.name == SETS_DIRECTORY else path


@contextlib.contextmanager
def open_set(path: Path) -> Iterator[DirectoryHandle]:
    """Open a set, or another directory of the databases; neither it nor ``sets`` may be a link.

    Raises:
        FileNotFoundError: It does not exist.
        NotRegularFileError: It is a link, or no directory.
    """
    top = _find_configured_directory(path)
    top_descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with DirectoryHandle(top_descriptor) as top_handle:
            handle = top_handle.open_directory(str(path.relative_to(top)).removeprefix("."))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotRegularFileError(database=path, detail=os.strerror(error.errno)) from error
        raise
    with handle:
        yield handle


@contextlib.contextmanager
def open_regular_file(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a regular file of a set with one link; the checked file is the opened one.

    Raises:
        FileNotFoundError: It does not exist.
        NotRegularFileError: It is anything else.
    """
    with open_set(path.parent) as directory:
        try:
            descriptor = os.open(path.name, flags | OPEN_FLAGS, dir_fd=directory.descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise NotRegularFileError(database=path, detail=os.strerror(error.errno)) from error
            raise
        try:
            _require_regular(path, os.fstat(descriptor), directory.stat_entry(""))
            yield descriptor
        finally:
            os.close(descriptor)


def describe_entry_problem(info: os.stat_result, directory: os.stat_result) -> LazyText | None:
    """Describe the problem of an entry of a set; None for a regular file of an allowed owner.

    Pure.
    """
    if not stat.S_ISREG(info.st_mode):
        return LazyText(
            N_("unexpected file type or mode: {mode}"), {"mode": stat.filemode(info.st_mode)}
        )
    if info.st_nlink != 1:
        return LazyText(N_("hard links: {links}"), {"links": info.st_nlink})
    if info.st_uid == 0 and directory.st_uid != 0:
        return LazyText(N_("it belongs to the system administrator (root)"))
    return None


def _require_regular(path: Path, info: os.stat_result, directory: os.stat_result) -> None:
    problem = describe_entry_problem(info, directory)
    if problem:
        raise NotRegularFileError(database=path, detail=problem)


def check_before_open(path: Path, *, applies_journal: bool = False) -> None:
    """Check a database and its companion files before SQLite opens them by name.

    Args:
        path: The database.
        applies_journal: Whether SQLite would apply a rollback journal. One that names a master
            journal is refused then, because SQLite would delete that file.

    Raises:
        NotRegularFileError: One of them is not a regular file with one link. A missing one is
            accepted.
    """
    with contextlib.suppress(FileNotFoundError), open_set(path.parent) as directory:
        owner = directory.stat_entry("")
        for suffix in ("", *COMPANION_SUFFIXES):
            file = path.with_name(path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                _require_regular(file, directory.stat_entry(file.name), owner)
        if not applies_journal:
            return
        journal = path.with_name(path.name + "-journal")
        with contextlib.suppress(FileNotFoundError), open_regular_file(journal) as descriptor:
            size = os.fstat(descriptor).st_size
            if os.pread(descriptor, 8, max(0, size - 8)) == MASTER_JOURNAL_MAGIC:
                raise NotRegularFileError(database=journal, detail="it names another file")


def check_after_open(
    connection: sqlite3.Connection, path: Path, schema: str = "main"
) -> sqlite3.Connection:
    """Check which file SQLite opened, before anything is read from it.

    Raises:
        NotRegularFileError: It is not the named file.
    """
    top = _find_configured_directory(path.parent)
    expected = Path(os.path.realpath(top), path.relative_to(top))
    with contextlib.ExitStack() as closing:
        closing.callback(connection.close)
        files = {str(row[1]): str(row[2]) for row in connection.execute("PRAGMA database_list")}
        if Path(os.path.realpath(files[schema])) != expected:
            raise NotRegularFileError(database=path, detail=files[schema])
        closing.pop_all()
    return connection


def read_agent_file(directory: DirectoryHandle, name: str) -> bytes | None:
    """Read a small file that an agent wrote into a set; None if it is missing or not the agent's.

    It must belong to root or to the user of this process: the application's user cannot create such
    a file.
    """
    try:
        descriptor = directory.open_file(name)
    except OSError:
        return None
    try:
        info = os.fstat(descriptor)
        plain = stat.S_ISREG(info.st_mode) and info.st_nlink == 1
        if not plain or info.st_uid not in (0, os.geteuid()) or info.st_size > RECORD_BYTES:
            return None
        return os.read(descriptor, RECORD_BYTES)
    finally:
        os.close(descriptor)


def mask_modes(modes: Mapping[str, int], names: tuple[str, ...], suffix: str) -> dict[str, int]:
    """Return the modes of a set's directory and databases, without anything else. Pure."""
    known = {name + suffix + end for name in names for end in ("", *COMPANION_SUFFIXES)}
    return {
        name: mode & (DIRECTORY_BITS if name == "." else FILE_BITS)
        for name, mode in modes.items()
        if name == "." or name in known
    }


class NotADatabaseSetError(DatabaseError):
    """A live directory that was never turned into a set."""

    message = NOT_A_DATABASE_SET


class DatabaseSetMissingError(DatabaseUnreachableError):
    """A missing set of files."""

    message = DATABASE_SET_MISSING


class RecordUnreadableError(DatabaseError):
    """The recorded state of the files is missing, or was not written by the agent."""

    message = FENCE_SNAPSHOT_UNREADABLE


class NotRegularFileError(DatabaseError):
    """Something other than a regular file in place of a database or of a companion file."""

    message = NOT_A_PLAIN_FILE
