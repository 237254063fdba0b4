"""Unix sockets at any place, for the kernel takes 107 bytes of it; who is at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def shorten_socket_path(path: Path) -> Iterator[str]:
    """Yield a short address of a socket, good while the block runs.

    Raises:
        OSError: If its directory cannot be reached.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connect_unix_socket(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection to the process that listens at a place.

    Where many wait to be taken in, it waits among them: a socket with a time limit of Python's is
    refused then instead, for the kernel tells it to try again.

    Raises:
        OSError: If nobody does, or they may not be spoken with, or the time is over.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        seconds = int(timeout_s)
        limit = struct.pack("@ll", seconds, int((timeout_s - seconds) * 1_000_000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with shorten_socket_path(path) as address:
            connection.connect(address)
        connection.settimeout(timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def get_peer_uid(connection: socket.socket) -> int:
    """Return the number of the user at the other end, as the kernel knows it: unix(7)."""
    size = struct.calcsize("i2I")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("i2I", found)[1])
