"""Console on the loopback interface for the user who started it; ends with the terminal.

Every user of a machine can connect to a port on its loopback interface. So the console asks the
kernel for the owner of the socket at the other end of each connection (sock_diag(7)); the cost does
not depend on the number of connections. A connection through SSH belongs to the user who logged in,
because sshd switches to that user.
"""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from ncen_updater.common.cli.characters import format_for_stream
from ncen_updater.common.cli.render import format_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import LimitedConnection, LimitedServer
from ncen_updater.common.i18n import N_, LazyText, is_right_to_left
from ncen_updater.common.messages import CONSOLE_PEER_UNKNOWN, CONSOLE_PORT
from ncen_updater.console.app import ConsoleApplication
from ncen_updater.console.authentication import LinkAuthBackend
from ncen_updater.console.service_client import ServiceClient
from ncen_updater.console.sessions import KEY_LIFETIME_S, LoginKeys, UserContext
from ncen_updater.console.setup import SetupPage

LOOPBACK_ADDRESS = "127.0.0.1"
FORBIDDEN_RESPONSE = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 54\r\n"
    b"Connection: close\r\n\r\nThis console belongs to another user of this machine.\n"
)

_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
#: From linux/netlink.h and linux/inet_diag.h: message header; family, protocol, extensions and
#: states; ports and addresses of a socket; and in the reply: ports, user and inode.
_HEAD, _WANTED = struct.Struct("=IHHII"), struct.Struct("=BBBxI")
_SOCKET, _FOUND = struct.Struct("!HH4s12x4s12x"), struct.Struct("=4x4s44x12xII")
_ANY_INTERFACE_AND_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ALL_STATES = 0xFFFFFFFF
#: Timeout; the kernel replies at once.
_ANSWER_S = 5.0
NOTHING_CHANGED = LazyText(N_("Nothing was changed."))
#: Interval at which the terminal checks whether the setup page is over.
SETUP_CHECK_S = 1.0
END_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class TerminalOutput:
    """Output to the terminal, or as JSON for a program."""

    def __init__(self, language: str, *, as_json: bool) -> None:
        self.language, self.as_json = language, as_json

    def write_line(self, text: LazyText) -> None:
        """Print one line."""
        words = text.render(self.language)
        right_to_left = is_right_to_left(self.language)
        print(format_for_stream(words, sys.stdout, right_to_left=right_to_left), flush=True)  # noqa: T201

    def show_link(self, key: str, port: int) -> None:
        """Print a one-time link."""
        link = f"http://{LOOPBACK_ADDRESS}:{port}/enter?key={key}"
        if self.as_json:
            document = {"link": link, "port": port, "valid_s": int(KEY_LIFETIME_S)}
            print(json.dumps(document), flush=True)  # noqa: T201
            return
        seconds = {"seconds": str(int(KEY_LIFETIME_S))}
        self.write_line(LazyText(N_("Open this one-time link within {seconds} seconds:"), seconds))
        self.write_line(LazyText("  {link}", {"link": link}))

    def show_ssh_hint(self, port: int) -> None:
        """Print once how to reach the console from a browser on another machine."""
        if self.as_json:
            return
        place = f"{LOOPBACK_ADDRESS}:{port}"
        where = f"-N -o ExitOnForwardFailure=yes -L {place}:{place} {_build_ssh_destination()}"
        self.write_line(
            LazyText(N_("If the browser is on another machine, run there first: ssh {where}"),
                 {"where": where})
        )  # fmt: skip
        self.write_line(LazyText(N_("Press Enter for a new link, Ctrl-C to stop.")))


def _build_ssh_destination() -> str:
    """Return ``user@host`` of this login for the ssh command."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a UID without an account name
        name = "USER"
    return f"{name}@{socket.gethostname()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console until its terminal ends; return the exit status."""
    parser = argparse.ArgumentParser(prog="ncen_updater.console.local_console", allow_abbrev=False)
    parser.add_argument("--socket", type=Path, default=Path())
    parser.add_argument("--setup", type=json.loads)
    parser.add_argument("--language", default="en")
    parser.add_argument("--zone")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    value = TerminalOutput(given.language, as_json=given.json)
    try:
        _serve(given, value)
    except UpdaterError as error:
        print("\n".join(format_error(error, [NOTHING_CHANGED], given.language)), file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    return 0


def _serve(options: argparse.Namespace, output: TerminalOutput) -> None:
    """Serve until a signal, the end of the input or the end of the setup.

    Raises:
        UpdaterError: If the console cannot start.
    """
    if not can_find_owner():
        raise UpdaterError(CONSOLE_PEER_UNKNOWN)
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    # Python's C-level signal handler writes to the pipe, so that a signal just before select()
    # wakes it as well.
    signal.set_wakeup_fd(ends, warn_on_full_buffer=False)
    for number in END_SIGNALS:
        signal.signal(number, lambda *_: None)
    keys = LoginKeys()
    zone: tzinfo | None = ZoneInfo(options.zone) if options.zone else None
    setup = SetupPage(options.setup) if options.setup else None
    if setup is not None:
        zone = datetime.now().astimezone().tzinfo  # no service reports a time zone
    inside = UserContext(ServiceClient(options.socket), persistent=True)
    routes = None if setup is None else setup.make_routes()
    application = ConsoleApplication(LinkAuthBackend(keys, inside), zone, options.language, routes)
    with serve_on_loopback(options.port, application) as port:
        try:
            output.show_link(keys.issue_key(), port)
            output.show_ssh_hint(port)
            while _wait_for_enter(ended, setup):
                output.show_link(keys.issue_key(), port)
        finally:
            application.close()
            if setup is not None and setup.is_applying:
                output.write_line(LazyText(N_("Setup continues in the background.")))


def _wait_for_enter(ended: int, setup: SetupPage | None) -> bool:
    """Wait for Enter; return False once the console must end.

    Without a terminal only signals and the end of the input end the console.
    """
    terminal, ready = sys.stdin.fileno(), list[int]()
    while not ready:
        ready = select.select([ended, terminal], [], [], SETUP_CHECK_S if setup else None)[0]
        if setup is not None and setup.is_over():
            return False
    if ended in ready:
        return False
    try:
        return bool(os.read(terminal, 4096))
    except OSError:  # the terminal is gone
        return False


def can_find_owner() -> bool:
    """Check on a connection of our own whether the kernel reports the owner of a connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), _ANSWER_S) as far,
    ):
        return find_owner(listener.getsockname(), far.getsockname()) == os.geteuid()


def list_allowed_uids(environment: Mapping[str, str]) -> frozenset[int]:
    """Return the UIDs whose connections are accepted: the user who started the console.

    Under ``sudo`` these are root and the user who ran sudo: an SSH tunnel connects as that user.
    """
    me = os.geteuid()
    behind = environment.get("SUDO_UID", "")
    return frozenset({me, int(behind)} if me == 0 and behind.isdecimal() else {me})


def find_owner(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the UID of the peer of a TCP connection; None if the peer closed its end.

    Args:
        local: Address and port of our end.
        remote: Address and port of the peer.
    """
    addresses = (socket.inet_aton(place[0]) for place in (remote, local))
    wanted = _SOCKET.pack(remote[1], local[1], *addresses)
    request = _WANTED.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ALL_STATES) + wanted
    request += _ANY_INTERFACE_AND_COOKIE
    head = _HEAD.pack(_HEAD.size + len(request), _BY_FAMILY, _REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(_ANSWER_S)
            kernel.send(head + request)
            answer = kernel.recv(4096)
    except OSError:
        return None
    if _HEAD.unpack_from(answer)[1] != _BY_FAMILY:  # an error message: no such socket
        return None
    ports, user, inode = _FOUND.unpack_from(answer, _HEAD.size)
    # Without such a connection the kernel returns the listening socket, whose remote port is 0. A
    # socket without an inode was closed by its process and is listed with UID 0.
    return int(user) if ports == wanted[:4] and inode else None


class LoopbackServer(LimitedServer):
    """Server that accepts connections only from the user who started the console."""

    def __init__(self, port: int, application: Callable[..., object]) -> None:
        super().__init__((LOOPBACK_ADDRESS, port), application, threads=LinkAuthBackend.threads)
        self._allowed = list_allowed_uids(os.environ)

    def admit_connection(self, conn: LimitedConnection) -> bytes | None:
        """Refuse the connection unless the kernel names an allowed user as its owner."""
        try:
            near, far = conn.socket.getsockname(), conn.socket.getpeername()
        except OSError:  # the peer disconnected
            return FORBIDDEN_RESPONSE
        return None if find_owner(near, far) in self._allowed else FORBIDDEN_RESPONSE


@contextmanager
def serve_on_loopback(port: int, application: Callable[..., object]) -> Iterator[int]:
    """Serve in a thread during the block; yield the port.

    Args:
        port: The port; 0 for any free one.
        application: The WSGI application.

    Raises:
        UpdaterError: If the port is not available.
    """
    server = LoopbackServer(port, application)
    with ExitStack() as stack:
        try:
            stack.enter_context(server.serve_in_thread("console"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise UpdaterError(CONSOLE_PORT, port=port, reason=reason) from error
        yield server.socket.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
