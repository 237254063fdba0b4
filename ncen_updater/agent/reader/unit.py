"""The process that reads the feed as a unit of systemd, with a user and a sandbox of its own.

systemd waits at a socket and starts one process for each connection, with the connection as its
stdin and stdout (``Accept=yes``). So neither side needs a right over the other: the asker may be
without any network, and the reader may be without the databases. The connection is the bond: who
of the two goes away is missed by the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ncen_updater.feed.errors import ReaderFailed, ReaderUnitAway

__all__ = ["asked", "end_with_asker", "is_connection"]


@contextlib.contextmanager
def asked(path: Path, order: bytes) -> Iterator[IO[bytes]]:
    """Give an order to a new process of the unit; yields what it says, a line at a time.

    Args:
        path: The socket.
        order: One line.

    Raises:
        ReaderUnitAway: If nobody waits at the socket.
        ReaderFailed: If the process ended before it had the order.
    """
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            connection.connect(str(path))
        except OSError as error:
            raise ReaderUnitAway(path=path, detail=error.strerror or str(error)) from error
        try:
            connection.sendall(order)
        except ConnectionError as error:
            raise ReaderFailed(detail=str(error)) from error
        # Closing is what ends a process whose answer nobody wants any more.
        yield stack.enter_context(connection.makefile("rb"))


def is_connection(descriptor: int) -> bool:
    """Whether a process was started with a connection there."""
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


def end_with_asker(descriptor: int) -> None:
    """Let this process be ended by SIGTERM once the other side of a connection has gone."""
    threading.Thread(target=_end, args=(descriptor,), daemon=True).start()


def _end(descriptor: int) -> None:
    waiting = select.poll()
    waiting.register(descriptor, 0)  # the end of the connection is told unasked
    waiting.poll()
    os.kill(os.getpid(), signal.SIGTERM)
