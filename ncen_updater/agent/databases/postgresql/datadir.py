"""The server's data directory, where the agent can see it: space, growth, and orphans.

A server killed in CREATE DATABASE leaves a directory without a row in pg_database. It can be told
from a living database only by its number, so the number is chosen and journaled beforehand, and
nothing but a journaled number is ever removed.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ncen_updater.agent.databases.postgresql.catalogue import server_major
from ncen_updater.agent.databases.postgresql.connection import Connection, Server, rows
from ncen_updater.common.atomic_files import fsync_directory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataDirectory:
    """A data directory that is on this machine and readable.

    Attributes:
        places: Directories that hold one directory a database: ``base`` and those of tablespaces.
        wal: Directory of the write-ahead log.
    """

    places: tuple[Path, ...]
    wal: Path

    def directories(self, oid: int) -> tuple[Path, ...]:
        """Return the directories of a database."""
        return tuple(p / str(oid) for p in self.places if (p / str(oid)).is_dir())

    def numbers(self) -> set[int]:
        """Return every number that a directory has, with or without a database."""
        return {int(d.name) for place in self.places for d in place.glob("[0-9]*") if d.is_dir()}

    def size(self, oid: int) -> int:
        """Return the bytes that a database has on the disk so far."""
        total = 0
        for directory in self.directories(oid):
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        total += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # temporary files come and go
                        continue
        return total

    def remove(self, oid: int) -> bool:
        """Remove the directories of a number that no database has; whether there were any.

        The caller has made sure that pg_database has no such row and that nobody makes one.
        """
        found = self.directories(oid)
        for directory in found:
            logger.warning("removing %s, left by an interrupted copy", directory)
            shutil.rmtree(directory)
            fsync_directory(directory.parent)
        return bool(found)


def find_data_directory(server: Server, connection: Connection) -> DataDirectory | None:
    """Return the server's data directory, None where it cannot be seen.

    It is another machine's over TCP, it is named only to superusers and members of
    pg_read_all_settings, and it belongs to the server's own account. That it is this server's is
    checked by the time of the server's start, not by its path.
    """
    if not server.settings.host.startswith("/"):
        return None
    try:
        shown, started, oid = rows(
            connection,
            "SELECT current_setting('data_directory'),"
            " extract(epoch FROM pg_postmaster_start_time())::float8,"
            " (SELECT oid::int8 FROM pg_database WHERE datname = current_database())",
        )[0]
    except psycopg.errors.InsufficientPrivilege:
        return None
    data = Path(shown)
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        same_server = abs(int(lines[2]) - started) < 60
        next((data / "base" / str(oid)).iterdir())
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    if not same_server or not os.access(data / "base", os.W_OK):
        return None
    places = [data / "base"]
    for tablespace in sorted((data / "pg_tblspc").glob("*")):
        places += sorted(tablespace.glob(f"PG_{server_major(connection)}_*"))
    return DataDirectory(tuple(places), data / "pg_wal")
