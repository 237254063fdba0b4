"""The disks of the server, as far as they can be seen: where copies go and how much is free there.

To know what is free at a place it is enough to reach it; the server's own directory need not be
open to the agent. What must be known is that the place is the server's: over a socket of this
machine the kernel says who listens, and the directory has to belong to that account.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ncen_updater.agent.databases.postgresql.connection import Connection, Server, rows
from ncen_updater.agent.databases.postgresql.datadir import find_data_directory
from ncen_updater.common.disk_space import free_bytes

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True)
class Disk:
    """One file system of the server.

    Attributes:
        place: A directory of the server on it.
        free: Bytes that may still be written.
        names: Logical names of the databases whose copies go there.
        log: Whether the write-ahead log is there.
    """

    place: str
    free: int
    names: tuple[str, ...] = ()
    log: bool = False


def read_disks(server: Server, connection: Connection, oids: Mapping[str, int]) -> tuple[Disk, ...]:
    """Return the disks that can be seen; none where the server is another machine's.

    Args:
        server: The server.
        connection: A session.
        oids: Object id of each database that will be copied, by logical name. A copy goes to the
            tablespace of its source.
    """
    if not server.settings.host.startswith("/"):
        return ()
    data, log = _data_and_log(server, connection)
    places = dict(_places(connection, oids, data))
    if log is not None:
        places[None] = log
    by_device: dict[int, list[tuple[str | None, Path]]] = {}
    listener = _listener(connection)
    for name, place in places.items():
        device = _device(place, listener)
        if device is not None:
            by_device.setdefault(device, []).append((name, place))
    return tuple(
        Disk(
            str(found[0][1]),
            free_bytes(found[0][1]),
            tuple(sorted(name for name, _ in found if name is not None)),
            any(name is None for name, _ in found),
        )
        for found in by_device.values()
    )


def database_places(
    server: Server, connection: Connection, oids: Mapping[str, int]
) -> dict[str, Path]:
    """Return where databases are, as far as it can be seen; by logical name.

    Args:
        server: The server.
        connection: A session.
        oids: As for :func:`read_disks`.
    """
    if not server.settings.host.startswith("/"):
        return {}
    data, _ = _data_and_log(server, connection)
    listener = _listener(connection)
    return {
        name: place
        for name, place in _places(connection, oids, data)
        if name is not None and _device(place, listener) is not None
    }


def _data_and_log(server: Server, connection: Connection) -> tuple[Path | None, Path | None]:
    """Return where the server says that its data are, and its log."""
    directory = find_data_directory(server, connection)
    if directory is not None:
        return directory.places[0], directory.wal
    try:
        data = Path(rows(connection, "SELECT current_setting('data_directory')")[0][0])
    except psycopg.errors.InsufficientPrivilege:
        return None, None
    return data, data  # where the log is a link to elsewhere, only the server's account can tell


def _places(
    connection: Connection, oids: Mapping[str, int], data: Path | None
) -> Iterator[tuple[str | None, Path]]:
    for name, oid in oids.items():
        found = rows(
            connection,
            "SELECT pg_tablespace_location(dattablespace) FROM pg_database WHERE oid = %s::oid",
            [oid],
        )
        location = found[0][0] if found else ""
        place = Path(location) if location else data
        if place is not None:
            yield name, place


def _device(place: Path, listener: int | None) -> int | None:
    """Return the file system of a directory of the listener's account, None for any other."""
    try:
        found = place.stat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != listener:
        return None
    return found.st_dev


def _listener(connection: Connection) -> int | None:
    """Return the account of whoever listens on the socket."""
    with socket.socket(fileno=os.dup(connection.fileno())) as copy:
        if copy.family != socket.AF_UNIX:
            return None
        said = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(said)[1])
