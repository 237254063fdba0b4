"""Files in a directory that the application's user writes to, as the one thing that they may be.

Whoever may write in a directory may put a link, a pipe or a second name of somebody else's file in
the place of a database, at any instant. So each is opened below an open directory, without
following anything, and looked at through what was opened; nothing is asked of a name twice. Where
only SQLite can open it, it is looked at before, and afterwards SQLite is asked what it opened: the
library follows links while it makes a whole path of a name, and none when it opens that path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ncen_updater.agent.adapters.databases.sqlite.errors import NotRegularFileError
from ncen_updater.common.directory_handle import DirectoryHandle

SETS_DIRECTORY = "sets"
COMPANION_SUFFIXES = ("-wal", "-shm", "-journal")
MASTER_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # sqlite.org/fileformat2.html, 3.
RECORD_BYTES = 65_536
FILE_BITS, DIRECTORY_BITS = 0o777, 0o3777
OPEN_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def _find_configured_directory(path: Path) -> Path:
    """The directory that the configuration names: what is above it is the administrator's."""
    if path.parent.name == SETS_DIRECTORY:
        return path.parent.parent
    return path.parent if path.name == SETS_DIRECTORY else path


@contextlib.contextmanager
def open_set(path: Path) -> Iterator[DirectoryHandle]:
    """Open a set, or another directory of the site's databases; neither it nor ``sets`` is a link.

    Raises:
        FileNotFoundError: It is not there.
        NotRegularFileError: It is a link, or no directory.
    """
    top = _find_configured_directory(path)
    whole = DirectoryHandle(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        handle = whole.open_directory(str(path.relative_to(top)).removeprefix("."))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotRegularFileError(database=path, detail=os.strerror(error.errno)) from error
        raise
    finally:
        whole.close()
    try:
        yield handle
    finally:
        handle.close()


@contextlib.contextmanager
def open_regular_file(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a plain file of a set that has one name; what is opened is what was looked at.

    Raises:
        FileNotFoundError: It is not there.
        NotRegularFileError: It is anything else.
    """
    with open_set(path.parent) as directory:
        place = directory.duplicate_descriptor()
        try:
            descriptor = os.open(path.name, flags | OPEN_FLAGS, dir_fd=place)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise NotRegularFileError(database=path, detail=os.strerror(error.errno)) from error
            raise
        finally:
            os.close(place)
        try:
            _require_regular(path, os.fstat(descriptor), directory.stat_entry(""))
            yield descriptor
        finally:
            os.close(descriptor)


def describe_entry_problem(info: os.stat_result, directory: os.stat_result) -> str | None:
    """What is wrong with an entry of a set; None for a plain file of whoever may have it. Pure."""
    if not stat.S_ISREG(info.st_mode):
        return f"mode {stat.filemode(info.st_mode)}"
    if info.st_nlink != 1:
        return f"{info.st_nlink} names"
    if info.st_uid == 0 and directory.st_uid != 0:
        return "it belongs to root"
    return None


def _require_regular(path: Path, info: os.stat_result, directory: os.stat_result) -> None:
    problem = describe_entry_problem(info, directory)
    if problem:
        raise NotRegularFileError(database=path, detail=problem)


def check_before_open(path: Path, *, finishing: bool = False) -> None:
    """Look at a database and what lies beside it, before anything opens them by name.

    Args:
        path: The database.
        finishing: Whether a journal would be finished. One that names another file is refused then:
            SQLite removes that file.

    Raises:
        NotRegularFileError: One of them is no plain file with one name. A missing one is nothing.
    """
    with contextlib.suppress(FileNotFoundError), open_set(path.parent) as directory:
        owner = directory.stat_entry("")
        for end in ("", *COMPANION_SUFFIXES):
            beside = path.with_name(path.name + end)
            with contextlib.suppress(FileNotFoundError):
                _require_regular(beside, directory.stat_entry(beside.name), owner)
        if not finishing:
            return
        journal = path.with_name(path.name + "-journal")
        with contextlib.suppress(FileNotFoundError), open_regular_file(journal) as descriptor:
            size = os.fstat(descriptor).st_size
            if os.pread(descriptor, 8, max(0, size - 8)) == MASTER_JOURNAL_MAGIC:
                raise NotRegularFileError(database=journal, detail="it names another file")


def check_after_open(
    connection: sqlite3.Connection, path: Path, schema: str = "main"
) -> sqlite3.Connection:
    """Ask what SQLite opened, before anything is read of it.

    Raises:
        NotRegularFileError: It is another file than the one that was named.
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


def read_ours(directory: DirectoryHandle, name: str) -> bytes | None:
    """Read a small file that an agent wrote into a set; None where it is not there, or not ours.

    It must belong to root or to who runs this: the application's user can make no such file.
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
    """Modes of a set's own directory and of its databases, and of nothing else. Pure."""
    known = {name + suffix + end for name in names for end in ("", *COMPANION_SUFFIXES)}
    return {
        name: mode & (DIRECTORY_BITS if name == "." else FILE_BITS)
        for name, mode in modes.items()
        if name == "." or name in known
    }
