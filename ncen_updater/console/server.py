"""The console's server: on the loopback of this machine, for the person who started it alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import LimitedConnection, LimitedServer
from ncen_updater.common.messages import CONSOLE_PORT
from ncen_updater.console.entrances import LinkEntrance
from ncen_updater.console.peers import allowed_users, owner_of

ADDRESS = "127.0.0.1"
NOT_YOURS = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 54\r\n"
    b"Connection: close\r\n\r\nThis console belongs to another user of this machine.\n"
)


class OwnServer(LimitedServer):
    """Takes connections of those alone who may have them."""

    def __init__(self, port: int, application: Callable[..., object]) -> None:
        super().__init__((ADDRESS, port), application, threads=LinkEntrance.threads)
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
    server = OwnServer(port, application)
    with ExitStack() as stack:
        try:
            stack.enter_context(server.answering("console"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise UpdaterError(CONSOLE_PORT, port=port, reason=reason) from error
        yield server.socket.getsockname()[1]
