"""The console as a web server in front of it reaches it, and people who come in by a password."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from ncen_updater.console.proxied_server import serve_behind_proxy
from tests.agent.service.api.conftest import Counter
from tests.console.support import Answer, Guest
from tests.login.login_socket import SECRETS
from tests.support.forks import DEADLINE_S
from tests.support.webdriver import as_user

ROOT = Path(__file__).resolve().parents[2]
#: Becomes another program that has a socket as the service manager gives it, sd_listen_fds(3).
GIVEN = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""
NAME = "ncen-console.example.org:8443"


@contextmanager
def serve_proxied_console(path: Path, login: Path) -> Iterator[Path]:
    """Answer in this process, at a socket as the service manager gives it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with serve_behind_proxy(listener, login):
            yield path


@contextmanager
def console_process(
    listener: socket.socket, login: Path, user: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the console as its unit does: as its user, with the socket that it is given.

    Args:
        listener: The socket.
        login: Where passwords are looked at.
        user: As whom; as who runs the trial if left out.
    """
    words = [
        sys.executable, "-I", "-S", "-c", GIVEN, str(listener.fileno()),
        *(as_user(user, reads_all=True) if user else ()), sys.executable, "-m",
        "ncen_updater.console.proxied_server", "--login", str(login),
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words, pass_fds=[listener.fileno()], cwd=ROOT, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


class UnixConnection(http.client.HTTPConnection):
    """As nginx speaks to the console."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(str(self.path))


class PasswordGuest(Guest):
    """A browser of a user with a password."""

    def log_in(self, user: str, password: str, **headers: str | None) -> Answer:
        """Send the form as the page has it, and keep the cookie."""
        fields = urlencode({"user": user, "password": password}).encode()
        found = self.ask("POST", "/login", fields, **headers)
        if "set-cookie" in found.headers:
            self.cookie = found.headers["set-cookie"].partition(";")[0]
        return found


class Person(PasswordGuest):
    """Where no web server is between."""

    def __init__(self, path: Path) -> None:
        super().__init__(0)
        self.path, self.host = path, NAME

    def connection(self) -> http.client.HTTPConnection:
        return UnixConnection(self.path)


def approvals(counter: Counter) -> list[str]:
    """The approvers."""
    return [
        user for user in SECRETS if any(user in map(str, r) for r in counter.rows()["approvals"])
    ]
