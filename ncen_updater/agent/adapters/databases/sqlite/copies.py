"""Copies of database files: byte by byte if they are not open anywhere, else by SQLite's backup.

A byte copy includes the WAL and the rollback journal and lets SQLite apply them in the copy, so
that the original is not even recovered. If the file system supports it, blocks are shared
(reflink).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import CopyPlan
from ncen_updater.agent.adapters.databases.sqlite.database_sets import DatabaseSets
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    check_after_open,
    check_before_open,
    open_regular_file,
    open_set,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import COPY_FAILED
from ncen_updater.common.progress import ProgressListener

FICLONE = 0x4004_9409  # linux/fs.h: shares the blocks of a whole file
READ_BYTES = 4 << 20
BACKUP_PAGES = 2_000
# A backup that restarts at writes of others is given up after this multiple of the database.
MAX_BACKUP_SIZES = 10


def build_uri(path: Path, mode: str) -> str:
    """Return the URI with which sqlite3 opens a file: ``ro``, ``rw``, or ``frozen``."""
    address = f"{path.absolute().as_uri()}?mode="
    return address + ("ro&immutable=1" if mode == "frozen" else mode)


def open_database(path: Path, mode: str) -> contextlib.closing[sqlite3.Connection]:
    """Open an existing database, closed at the end of a block.

    Raises:
        NotRegularFileError: It is a link, or not a regular file.
    """
    check_before_open(path, applies_journal=mode == "rw")
    connection = sqlite3.connect(
        build_uri(path, mode), uri=True, isolation_level=None, check_same_thread=False
    )
    return contextlib.closing(check_after_open(connection, path))


def _create_file(target: Path) -> int:
    with open_set(target.parent) as handle:
        return handle.create_file(target.name)


def copy_file_bytes(source: Path, target: Path, report: Callable[[int], None]) -> None:
    """Copy one file that nobody writes, flushed to the disk; only the agent may open the copy yet.

    Args:
        source: The file.
        target: The new file.
        report: Receives the bytes of each block.

    Raises:
        NotRegularFileError: The source is a link, or not a regular file.
    """
    with open_regular_file(source) as descriptor, os.fdopen(_create_file(target), "wb") as write:
        with open(descriptor, "rb", closefd=False) as read:
            try:
                fcntl.ioctl(write.fileno(), FICLONE, descriptor)
                report(os.fstat(descriptor).st_size)
            except OSError:  # the file system cannot share blocks, or there are two of them
                while block := read.read(READ_BYTES):
                    write.write(block)
                    report(len(block))
        write.flush()
        os.fsync(write.fileno())


def backup_database(source: Path, target: Path, report: Callable[[int], None]) -> None:
    """Copy a database that may be in use, as of one moment.

    With a WAL, a snapshot is copied. Without, SQLite starts again whenever the database is written,
    since a snapshot would lock the application out.

    Raises:
        NotRegularFileError: The source is a link, or not a regular file.
        sqlite3.Error: It cannot be read, is busy for over half a minute, or is written too often.
    """
    page = copied = 0

    def report_pages(status: int, remaining: int, total: int) -> None:
        nonlocal page, copied
        done = total - remaining
        report((done - page) * size)
        if status == sqlite3.SQLITE_OK:
            copied += done if done <= page else done - page
        page = done
        if remaining and copied > MAX_BACKUP_SIZES * total:
            raise sqlite3.OperationalError("written too often to be copied; try at a quieter time")

    os.close(_create_file(target))
    with open_database(source, "ro") as read, open_database(target, "rw") as write:
        read.execute("PRAGMA busy_timeout = 30000")
        size = int(read.execute("PRAGMA page_size").fetchone()[0])
        if read.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()
        read.backup(write, pages=BACKUP_PAGES, progress=report_pages)


def checkpoint_and_check(path: Path) -> str | None:
    """Apply the WAL or journal, check the integrity of the file, and flush it.

    Returns:
        The problem of the database, None if there is none.

    Raises:
        sqlite3.Error: It is not a database, or cannot be written.
    """
    with open_database(path, "rw") as database:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        results = database.execute("PRAGMA quick_check(5)").fetchall()
    with open_regular_file(path) as descriptor:
        os.fsync(descriptor)
    problems = [str(row[0]) for row in results if row[0] != "ok"]
    return "; ".join(problems) or None


def copy_files(
    layout: DatabaseSets,
    source: Path,
    target: Path,
    report: Callable[[str, int], None],
    *,
    online: bool = False,
) -> None:
    """Copy the databases of a set into a new directory, completely and flushed.

    Until all are copied only the agent may access the directory: owners and modes are set last.

    Args:
        layout: The sets.
        source: The set.
        target: The new directory; its name is not yet that of a set.
        report: Receives the name of a database and the bytes of each block.
        online: Whether the databases may be in use.

    Raises:
        COPY_FAILED: If a file cannot be copied, or the copy is damaged.
        NotRegularFileError: A file of the source is not a regular file.
    """
    layout.create_set(target)
    for name in layout.names:
        try:
            main = layout.get_file(target, name)
            if online:
                backup_database(layout.get_file(source, name), main, partial(report, name))
            else:
                for path in layout.list_files(source, name):
                    if not path.name.endswith("-shm"):
                        copy_file_bytes(path, target / path.name, partial(report, name))
            problem = checkpoint_and_check(main)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(COPY_FAILED, database=name, detail=sanitize_error(error)) from error
        if problem:
            raise DatabaseError(COPY_FAILED, database=name, detail=problem)


def copy_owner_and_modes(layout: DatabaseSets, source: Path, target: Path) -> None:
    """Set owners and modes of a copy as in the original; from then on others may access it."""
    modes = layout.find_original_modes(source)
    root = os.geteuid() == 0
    with open_set(source) as original, open_set(target) as handle:
        for name in layout.names:
            main = layout.get_file(target, name)
            info = original.stat_entry(main.name)
            for path in layout.list_files(target, name):
                with open_regular_file(path) as descriptor:
                    if root:
                        os.fchown(descriptor, info.st_uid, info.st_gid)
                    mode = modes.get(main.name, stat.S_IMODE(info.st_mode))
                    os.fchmod(descriptor, mode & 0o777)
        info = original.stat_entry("")
        if root:
            handle.set_owner("", info.st_uid, info.st_gid)
        handle.set_mode("", modes.get(".", stat.S_IMODE(info.st_mode)))
        handle.flush_entries()


def copy_set(
    layout: DatabaseSets, source: Path, target: Path, progress: ProgressListener
) -> CopyPlan:
    """Copy the files of a set the way a fenced live set is copied.

    Raises:
        COPY_FAILED: If a file cannot be copied, or the copy is damaged.
    """
    partial = layout.get_partial_set(target)
    layout.remove_set(partial)
    layout.remove_set(target)

    def report_block(name: str, count: int) -> None:
        del count
        progress.report(LazyText(N_("copying {name}"), {"name": name}))

    copy_files(layout, source, partial, report_block)
    copy_owner_and_modes(layout, source, partial)
    layout.rename_set(partial, target)
    return CopyPlan({name: {"from": source.name, "to": target.name} for name in layout.names})
