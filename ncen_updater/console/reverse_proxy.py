"""The console behind a web server: a process of its own user, to which every person comes in.

It has one socket on which the web server speaks, which the service manager gives it, and one at
which passwords are looked at; no root, no database, no journal, no network, and no right of its own
at the service: whatever it shows was answered to a person who is in.
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

#: Of what the service manager gives, sd_listen_fds(3).
SD_LISTEN_FDS_START = 3
SD_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class ProxiedServer(LimitedServer):
    """Takes what comes on a socket: who may connect there is for the socket's own rights to say."""

    def admit_connection(self, conn: LimitedConnection) -> bytes | None:
        """Take everybody who could connect."""
        del conn
        return None


@contextmanager
def serve_behind_proxy(listener: socket.socket, login: Path) -> Iterator[None]:
    """Answer on a socket while the block runs.

    Args:
        listener: On which the web server speaks.
        login: The socket of who looks at passwords.
    """
    entrance = PasswordAuthBackend(LoginClient(login))
    application = ConsoleApplication(entrance)
    place = Path(listener.getsockname())
    server = ProxiedServer(place, application, threads=entrance.threads, listener=listener)
    with server.serve_in_thread("console"):
        try:
            yield
        finally:
            application.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until the service manager ends it."""
    parser = argparse.ArgumentParser(prog="ncen_updater.console.reverse_proxy", allow_abbrev=False)
    parser.add_argument("--login", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if os.environ.get("LISTEN_FDS") != "1" or os.environ.get("LISTEN_PID") != str(os.getpid()):
        parser.error("it is started by ncen-updater-console.socket")
    for (
        name
    ) in SD_LISTEN_VARIABLES:  # they are for this process, and the server's library would take them
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
