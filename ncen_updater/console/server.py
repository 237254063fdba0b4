"""The console's server: on the loopback of this machine, for the person who started it alone."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import LOOK_S, LimitedConnection, LimitedGateway, LimitedServer
from ncen_updater.common.messages import CONSOLE_PORT
from ncen_updater.console.peers import allowed_users, owner_of

__all__ = ["ADDRESS", "serving"]

ADDRESS = "127.0.0.1"
#: Three browsers with two pages each that are kept up to date, and what they ask for besides.
THREADS = 16
WAITING = 32
TIMEOUT_S = 10
SHUTDOWN_S = 2
MAX_BODY = 65_536
NOT_YOURS = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 54\r\n"
    b"Connection: close\r\n\r\nThis console belongs to another user of this machine.\n"
)


class ConsoleServer(LimitedServer):
    """Takes connections of those alone who may have them."""

    max_request_body_size = MAX_BODY

    def __init__(self, port: int, application: Callable[..., object]) -> None:
        super().__init__(
            (ADDRESS, port),
            application,
            numthreads=THREADS,
            max=THREADS,
            server_name="ncen-updater",
            timeout=TIMEOUT_S,
            shutdown_timeout=SHUTDOWN_S,
            accepted_queue_size=WAITING,
            accepted_queue_timeout=TIMEOUT_S,
        )
        self.gateway = LimitedGateway
        self._allowed = allowed_users(os.environ)

    def admit(self, conn: LimitedConnection) -> bytes | None:
        """Ask the kernel whose the other end is."""
        try:
            near, far = conn.socket.getsockname(), conn.socket.getpeername()
        except OSError:  # it has gone
            return NOT_YOURS
        return None if owner_of(near, far) in self._allowed else NOT_YOURS


@contextmanager
def serving(port: int, application: Callable[..., object]) -> Iterator[int]:
    """Answer while the block runs; yields the port.

    Args:
        port: Which; 0 for any that is free.
        application: WSGI.

    Raises:
        UpdaterError: If the port cannot be had.
    """
    server = ConsoleServer(port, application)
    try:
        server.prepare()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UpdaterError(CONSOLE_PORT, port=port, reason=reason) from error
    found: int = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve, name="console", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ending = threading.Thread(target=server.stop)
        ending.start()
        with contextlib.suppress(OSError):  # somebody who connects ends its sleep
            socket.create_connection((ADDRESS, found), LOOK_S).close()
        ending.join()
        thread.join()
