"""The console's server: on the loopback of this machine, for the person who started it alone.

Every user of a machine can connect to a port of its loopback. The kernel is asked for the one
socket at the other end, and whose it is: sock_diag(7), which costs the same however many there are.
What comes through SSH belongs to the person who logged in, for its process became that person.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import LimitedConnection, LimitedServer
from ncen_updater.common.messages import CONSOLE_PORT
from ncen_updater.console.authentication import LinkAuthBackend

LOOPBACK_ADDRESS = "127.0.0.1"
FORBIDDEN_RESPONSE = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 54\r\n"
    b"Connection: close\r\n\r\nThis console belongs to another user of this machine.\n"
)

_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
#: Of linux/netlink.h and linux/inet_diag.h: the head of a message; a family, a protocol, extensions
#: and states; ports and addresses of a socket; and of an answer its ports, its user and its inode.
_HEAD, _WANTED = struct.Struct("=IHHII"), struct.Struct("=BBBxI")
_SOCKET, _FOUND = struct.Struct("!HH4s12x4s12x"), struct.Struct("=4x4s44x12xII")
_ANY_INTERFACE_AND_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ALL_STATES = 0xFFFFFFFF
#: The kernel answers at once.
_ANSWER_S = 5.0


def can_find_owner() -> bool:
    """Whether the kernel says whose a connection is: it is asked for one of ours."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), _ANSWER_S) as far,
    ):
        return find_owner(listener.getsockname(), far.getsockname()) == os.geteuid()


def list_allowed_uids(environment: Mapping[str, str]) -> frozenset[int]:
    """Return the numbers of those whose connections are taken: who started the console.

    Behind ``sudo`` that is root, and who typed it: their SSH connects as them.
    """
    me = os.geteuid()
    behind = environment.get("SUDO_UID", "")
    return frozenset({me, int(behind)} if me == 0 and behind.isdecimal() else {me})


def find_owner(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the number of the user who connected; None where nobody holds that end any more.

    Args:
        local: Address and port of our end.
        remote: Of the other one.
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
    if _HEAD.unpack_from(answer)[1] != _BY_FAMILY:  # an error: there is none
        return None
    ports, user, inode = _FOUND.unpack_from(answer, _HEAD.size)
    # Without a connection the kernel names who listens there, whose other end has no port; and an
    # end without an inode was let go of, and is listed as root's.
    return int(user) if ports == wanted[:4] and inode else None


class LoopbackServer(LimitedServer):
    """Takes connections of those alone who may have them."""

    def __init__(self, port: int, application: Callable[..., object]) -> None:
        super().__init__((LOOPBACK_ADDRESS, port), application, threads=LinkAuthBackend.threads)
        self._allowed = list_allowed_uids(os.environ)

    def admit_connection(self, conn: LimitedConnection) -> bytes | None:
        """Ask the kernel whose the other end is."""
        try:
            near, far = conn.socket.getsockname(), conn.socket.getpeername()
        except OSError:  # it has gone
            return FORBIDDEN_RESPONSE
        return None if find_owner(near, far) in self._allowed else FORBIDDEN_RESPONSE


@contextmanager
def serve_on_loopback(port: int, application: Callable[..., object]) -> Iterator[int]:
    """Answer while the block runs; yields the port.

    Args:
        port: Which; 0 for any that is free.
        application: WSGI.

    Raises:
        UpdaterError: If the port cannot be had.
    """
    server = LoopbackServer(port, application)
    with ExitStack() as stack:
        try:
            stack.enter_context(server.serve_in_thread("console"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise UpdaterError(CONSOLE_PORT, port=port, reason=reason) from error
        yield server.socket.getsockname()[1]
