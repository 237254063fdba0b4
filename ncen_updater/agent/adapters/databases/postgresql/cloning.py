"""Whether copies can share their blocks with the originals (PostgreSQL 18, XFS or Btrfs).

The server takes ``file_copy_method = clone`` on every file system and copies the bytes where they
cannot be shared, so its word is not enough: the file system is asked too. Both are known before
officers are out, and an answer holds for one run of the agent.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import psycopg

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    find_data_directory,
    find_database_directories,
    previous_name,
    read_databases,
    read_server_major,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    fetch_rows,
    quote_identifier,
)
from ncen_updater.agent.adapters.databases.postgresql.control import choose_oid, is_being_created
from ncen_updater.common.database_words import sanitize_error

logger = logging.getLogger(__name__)

CLONE_MIN_MAJOR = 18
SET_CLONE_STATEMENT = "SET file_copy_method = clone"
MOUNTS = Path("/proc/self/mountinfo")
XFS_GEOMETRY = 0x8100_587E  # linux: XFS_IOC_FSGEOMETRY
XFS_GEOMETRY_BYTES = 256
XFS_FLAGS_AT = 92
XFS_REFLINK = 1 << 20


class CloneSupport:
    """Finds out once, on a tiny database of the agent's own.

    Args:
        server: The server.
        names: Logical to physical names.
    """

    def __init__(self, server: Server, names: Mapping[str, str]) -> None:
        self._server = server
        self._names = names
        self._known: dict[str | None, frozenset[str]] = {}

    @property
    def trial_database(self) -> str:
        """Name of the tiny database."""
        return f"{self._server.settings.control_database}__clone_trial"

    def list_cloneable(self, change: ChangeRef) -> frozenset[str]:
        """Logical names whose copies can share blocks, as far as :meth:`detect` was asked."""
        return self._known.get(change.retained_from, frozenset())

    def detect(self, change: ChangeRef) -> None:
        """Ask file system and server, once; makes and drops the tiny database where both might.

        Raises:
            DatabaseError: If there is no session to be had.
        """
        if self._server.settings.copy_method != "auto" or change.retained_from in self._known:
            return
        with self._server.open_control_session(
            statement_s=self._server.timeouts.long_s
        ) as connection:
            self._known[change.retained_from] = self._detect(connection, change)

    def _detect(self, connection: Connection, change: ChangeRef) -> frozenset[str]:
        if read_server_major(connection) < CLONE_MIN_MAJOR:
            return frozenset()
        found = read_databases(connection)
        oids: dict[str, int] = {}
        for name, physical in self._names.items():
            row = found.get(
                previous_name(physical, change.retained_from) if change.retained_from else physical
            )
            if row is not None and row.is_valid:
                oids[name] = row.oid
        places = find_database_directories(self._server, connection, oids)
        sharing = frozenset(name for name, place in places.items() if supports_reflink(place))
        if not sharing or not self._try_clone(connection):
            return frozenset()
        return sharing

    def _try_clone(self, connection: Connection) -> bool:
        """Clone an empty database, and drop it again whatever comes of it."""
        name = quote_identifier(self.trial_database)
        try:
            self.drop_trial(connection)
            oid = self._choose_trial_oid(connection)
            execute(connection, SET_CLONE_STATEMENT)
            execute(
                connection,
                f"CREATE DATABASE {name} WITH TEMPLATE template0 ALLOW_CONNECTIONS false"
                f" OID {oid} STRATEGY file_copy",
            )
        except psycopg.Error as error:
            logger.info("copies cannot share blocks: %s", sanitize_error(error))
            return False
        finally:
            self.drop_trial_if_possible(connection)
        return True

    def drop_trial_if_possible(self, connection: Connection) -> None:
        """Drop it as :meth:`drop_trial` does, where that can be done: no way back depends on it."""
        try:
            self.drop_trial(connection)
        except psycopg.Error as error:
            # It is empty and closed: the next look, or the next collection, drops it.
            logger.warning("%s stays for now: %s", self.trial_database, sanitize_error(error))

    def _choose_trial_oid(self, connection: Connection) -> int:
        """A number that can be foretold, without what a killed server left under it."""
        taken = {row.oid for row in read_databases(connection).values()}
        oid = choose_oid("clonetry", self.trial_database, taken)
        directory = find_data_directory(self._server, connection)
        if directory is not None and not is_being_created(connection, oid):
            directory.remove_orphan(oid)
        return oid

    def drop_trial(self, connection: Connection) -> None:
        """Drop the tiny database if an agent that was killed left it."""
        if fetch_rows(
            connection, "SELECT FROM pg_database WHERE datname = %s", [self.trial_database]
        ):
            execute(connection, f"DROP DATABASE IF EXISTS {quote_identifier(self.trial_database)}")


def supports_reflink(place: Path) -> bool:
    """Whether the file system of a directory lets two files share blocks; False where it hides it.

    Args:
        place: A directory that can be reached; it need not be readable.
    """
    try:
        device = place.stat().st_dev
        kind = _find_filesystem_type(place.resolve(), device)
        if kind == "btrfs":
            return True
        return kind == "xfs" and _xfs_supports_reflink(place, device)
    except (OSError, ValueError, IndexError, struct.error):
        return False


def _find_filesystem_type(place: Path, device: int) -> str:
    wanted = f"{os.major(device)}:{os.minor(device)}"
    above: list[tuple[int, str]] = []
    for line in MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        number, point = before.split()[2], Path(before.split()[4])
        if number == wanted:
            return after.split()[0]
        if place.is_relative_to(point):
            above.append((len(point.parts), after.split()[0]))
    # Btrfs gives every subvolume a number of its own, which no line has.
    return max(above)[1] if above and max(above)[1] == "btrfs" else ""


def _xfs_supports_reflink(place: Path, device: int) -> bool:
    """XFS tells anybody who can open a directory of it: the place's own, or one above."""
    for directory in (place, *place.resolve().parents):
        if directory.stat().st_dev != device:
            break
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            continue
        try:
            value = fcntl.ioctl(descriptor, XFS_GEOMETRY, bytes(XFS_GEOMETRY_BYTES))
        finally:
            os.close(descriptor)
        return bool(struct.unpack_from("=I", value, XFS_FLAGS_AT)[0] & XFS_REFLINK)
    return False
