"""Copies of database files: byte by byte where nobody has them open, else SQLite's own backup.

A byte copy takes the WAL and the rollback journal along and lets SQLite finish them in the copy, so
that the original is not even recovered. Where the file system can, the bytes are shared (reflink).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.sqlite.layout import Layout
from ncen_updater.common.messages import COPY_FAILED

__all__ = ["backup", "byte_copy", "connect", "copy_database", "settle", "uri"]

FICLONE = 0x4004_9409  # linux/fs.h: share the blocks of a whole file
BLOCK = 4 << 20
BACKUP_PAGES = 2_000


def uri(path: Path, mode: str) -> str:
    """An address that sqlite3 opens in a mode: ``ro``, ``rw``, or ``frozen``."""
    address = f"{path.absolute().as_uri()}?mode="
    return address + ("ro&immutable=1" if mode == "frozen" else mode)


def connect(path: Path, mode: str) -> contextlib.closing[sqlite3.Connection]:
    """Open a database that exists; a block closes it."""
    return contextlib.closing(
        sqlite3.connect(uri(path, mode), uri=True, isolation_level=None, check_same_thread=False)
    )


def _own_like(source: Path, target: Path) -> None:
    info = source.stat()
    if os.geteuid() == 0:
        os.chown(target, info.st_uid, info.st_gid)
    target.chmod(info.st_mode & 0o777)


def byte_copy(source: Path, target: Path, told: Callable[[int], None]) -> None:
    """Copy one file that nobody writes, with owner and mode, flushed to the disk.

    Args:
        source: The file.
        target: Made new.
        told: Told the bytes of each block.
    """
    with source.open("rb") as read, target.open("xb") as write:
        try:
            fcntl.ioctl(write.fileno(), FICLONE, read.fileno())
            told(os.fstat(read.fileno()).st_size)
        except OSError:  # this file system, or two of them, cannot share blocks
            while block := read.read(BLOCK):
                write.write(block)
                told(len(block))
        write.flush()
        os.fsync(write.fileno())
    _own_like(source, target)


def backup(source: Path, target: Path, told: Callable[[int], None]) -> None:
    """Copy a database that may be in use, one consistent moment of it.

    Raises:
        sqlite3.Error: It cannot be read, or is busy for over half a minute.
    """
    page = 0

    def pages(_: int, remaining: int, total: int) -> None:
        nonlocal page
        done = total - remaining
        told((done - page) * size)
        page = done

    with connect(source, "ro") as read, connect(target, "rwc") as write:
        read.execute("PRAGMA busy_timeout = 30000")
        size = int(read.execute("PRAGMA page_size").fetchone()[0])
        read.backup(write, pages=BACKUP_PAGES, progress=pages)
    _own_like(source, target)


def settle(path: Path) -> str | None:
    """Finish what a WAL or journal left, look at the file's soundness, flush it.

    Returns:
        What is wrong with the database, None when it is sound.

    Raises:
        sqlite3.Error: It is no database, or cannot be written.
    """
    with connect(path, "rw") as database:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        said = database.execute("PRAGMA quick_check(5)").fetchall()
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    problems = [str(row[0]) for row in said if row[0] != "ok"]
    return "; ".join(problems) or None


def copy_database(
    layout: Layout,
    name: str,
    source: Path,
    target: Path,
    told: Callable[[int], None],
    *,
    online: bool = False,
) -> None:
    """Copy one database of a set into another set, whole and flushed.

    Args:
        layout: Where files of a set lie.
        name: Of the database.
        source: The set.
        target: The directory of the other set.
        told: Told the bytes of each block.
        online: Whether the database may be in use.

    Raises:
        CopyFailed: If a file cannot be copied, or the copy is not whole.
    """
    try:
        if online:
            backup(layout.file(source, name), layout.file(target, name), told)
        else:
            for path in layout.files(source, name):
                if not path.name.endswith("-shm"):
                    byte_copy(path, target / path.name, told)
        problem = settle(layout.file(target, name))
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(COPY_FAILED, database=name, detail=str(error)) from error
    if problem:
        raise DatabaseError(COPY_FAILED, database=name, detail=problem)
