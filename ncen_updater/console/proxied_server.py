"""Console behind a web server: one process with its own user, in which every user logs in.

It has a socket for the web server, passed by systemd, and connects to the socket of the login
helper. It has no root privileges, no access to databases, journal or network, and no role at the
service: everything it shows was returned to a logged-in user.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ncen_updater.common.http_server import LimitedConnection, LimitedServer
from ncen_updater.console.app import ConsoleApplication
from ncen_updater.console.authentication import PasswordAuthBackend
from ncen_updater.console.password_login import LoginClient

#: First file descriptor that systemd passes, sd_listen_fds(3).
SD_LISTEN_FDS_START = 3
SD_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class ProxiedServer(LimitedServer):
    """Server on a Unix socket; the permissions of the socket decide who can connect."""

    def admit_connection(self, conn: LimitedConnection) -> bytes | None:
        """Accept every connection."""
        return None


@contextmanager
def serve_behind_proxy(listener: socket.socket, login: Path) -> Iterator[None]:
    """Serve on a socket during the block.

    Args:
        listener: Socket for the web server.
        login: Path of the login helper's socket.
    """
    backend = PasswordAuthBackend(LoginClient(login))
    application = ConsoleApplication(backend)
    path = Path(listener.getsockname())
    server = ProxiedServer(path, application, threads=backend.threads, listener=listener)
    with server.serve_in_thread("console"):
        try:
            yield
        finally:
            application.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until systemd stops the process."""
    parser = argparse.ArgumentParser(prog="ncen_updater.console.proxied_server", allow_abbrev=False)
    parser.add_argument("--login", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if os.environ.get("LISTEN_FDS") != "1" or os.environ.get("LISTEN_PID") != str(os.getpid()):
        parser.error("it is started by ncen-updater-console.socket")
    # For this process only: otherwise cheroot would use the socket itself.
    for name in SD_LISTEN_VARIABLES:
        os.environ.pop(name, None)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with (
        socket.socket(fileno=SD_LISTEN_FDS_START) as listener,
        serve_behind_proxy(listener, given.login),
    ):
        while not ended.wait(3600):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
