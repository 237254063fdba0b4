"""Copies of database files: byte by byte where nobody has them open, else SQLite's own backup.

A byte copy takes the WAL and the rollback journal along and lets SQLite finish them in the copy, so
that the original is not even recovered. Where the file system can, the bytes are shared (reflink).
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

FICLONE = 0x4004_9409  # linux/fs.h: share the blocks of a whole file
READ_BYTES = 4 << 20
BACKUP_PAGES = 2_000


def build_uri(path: Path, mode: str) -> str:
    """Build the URI that sqlite3 opens in a mode: ``ro``, ``rw``, or ``frozen``."""
    address = f"{path.absolute().as_uri()}?mode="
    return address + ("ro&immutable=1" if mode == "frozen" else mode)


def open_database(path: Path, mode: str) -> contextlib.closing[sqlite3.Connection]:
    """Open a database that exists; a block closes it.

    Raises:
        NotRegularFileError: It is a link, or something else than a file.
    """
    check_before_open(path, finishing=mode == "rw")
    connection = sqlite3.connect(
        build_uri(path, mode), uri=True, isolation_level=None, check_same_thread=False
    )
    return contextlib.closing(check_after_open(connection, path))


def _create_file(target: Path) -> int:
    with open_set(target.parent) as place:
        return place.create_file(target.name)


def copy_file_bytes(source: Path, target: Path, report: Callable[[int], None]) -> None:
    """Copy one file that nobody writes, flushed to the disk; nobody else may open the copy yet.

    Args:
        source: The file.
        target: Made new.
        report: Told the bytes of each block.

    Raises:
        NotRegularFileError: The source is a link, or something else than a file.
    """
    with open_regular_file(source) as descriptor, os.fdopen(_create_file(target), "wb") as write:
        with open(descriptor, "rb", closefd=False) as read:
            try:
                fcntl.ioctl(write.fileno(), FICLONE, descriptor)
                report(os.fstat(descriptor).st_size)
            except OSError:  # this file system, or two of them, cannot share blocks
                while block := read.read(READ_BYTES):
                    write.write(block)
                    report(len(block))
        write.flush()
        os.fsync(write.fileno())


def backup_database(source: Path, target: Path, report: Callable[[int], None]) -> None:
    """Copy a database that may be in use, one consistent moment of it.

    Raises:
        NotRegularFileError: The source is a link, or something else than a file.
        sqlite3.Error: It cannot be read, or is busy for over half a minute.
    """
    page = 0

    def pages(_: int, remaining: int, total: int) -> None:
        nonlocal page
        done = total - remaining
        report((done - page) * size)
        page = done

    os.close(_create_file(target))
    with open_database(source, "ro") as read, open_database(target, "rw") as write:
        read.execute("PRAGMA busy_timeout = 30000")
        size = int(read.execute("PRAGMA page_size").fetchone()[0])
        read.backup(write, pages=BACKUP_PAGES, progress=pages)


def checkpoint_and_check(path: Path) -> str | None:
    """Finish what a WAL or journal left, look at the file's soundness, flush it.

    Returns:
        What is wrong with the database, None when it is sound.

    Raises:
        sqlite3.Error: It is no database, or cannot be written.
    """
    with open_database(path, "rw") as database:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        value = database.execute("PRAGMA quick_check(5)").fetchall()
    with open_regular_file(path) as descriptor:
        os.fsync(descriptor)
    problems = [str(row[0]) for row in value if row[0] != "ok"]
    return "; ".join(problems) or None


def copy_files(
    layout: DatabaseSets,
    source: Path,
    target: Path,
    report: Callable[[str, int], None],
    *,
    online: bool = False,
) -> None:
    """Copy the databases of a set into a new directory, whole and flushed.

    Until all are there nobody but the agent may look into the directory: its owner and modes, and
    those of the files, come last.

    Args:
        layout: Where files of a set lie.
        source: The set.
        target: Made new; has no name yet by which anybody would take it for a set.
        report: Told the name of a database and the bytes of each block.
        online: Whether the databases may be in use.

    Raises:
        COPY_FAILED: If a file cannot be copied, or the copy is not whole.
        NotRegularFileError: A file of the source is something else.
    """
    layout.create_set(target)
    for name in layout.names:
        try:
            main = layout.file_path(target, name)
            if online:
                backup_database(layout.file_path(source, name), main, partial(report, name))
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
    """Give a copy and its files the owners and modes of the original; it is handed over by this."""
    modes = layout.find_original_modes(source)
    root = os.geteuid() == 0
    with open_set(source) as original, open_set(target) as place:
        for name in layout.names:
            main = layout.file_path(target, name)
            info = original.stat_entry(main.name)
            for path in layout.list_files(target, name):
                with open_regular_file(path) as descriptor:
                    if root:
                        os.fchown(descriptor, info.st_uid, info.st_gid)
                    mode = modes.get(main.name, stat.S_IMODE(info.st_mode))
                    os.fchmod(descriptor, mode & 0o777)
        info = original.stat_entry("")
        if root:
            place.set_owner("", info.st_uid, info.st_gid)
        place.set_mode("", modes.get(".", stat.S_IMODE(info.st_mode)))
        place.flush_entries()


def copy_set(
    layout: DatabaseSets, source: Path, target: Path, progress: ProgressListener
) -> CopyPlan:
    """Copy the files of a set as those of a fenced live set are copied.

    Raises:
        COPY_FAILED: If a file cannot be copied, or the copy is not whole.
    """
    partial = layout.partial_path(target)
    layout.remove_set(partial)
    layout.remove_set(target)

    def reported(name: str, count: int) -> None:
        del count
        progress.report(LazyText(N_("copying {name}"), {"name": name}))

    copy_files(layout, source, partial, reported)
    copy_owner_and_modes(layout, source, partial)
    layout.rename_set(partial, target)
    return CopyPlan({name: {"from": source.name, "to": target.name} for name in layout.names})
