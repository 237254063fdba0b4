"""Forward requests of the console to the service, as the user that this process became.

The console names a request. If it is allowed, it is sent here over a connection of the user, which
is then closed for writing and handed over: the console reads the answer, and can send nothing more
on it. Decisions (an approval, an upgrade, a schedule, a hold) are never forwarded for a console
alone: they need the password again (``helper``).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncen_updater.common.unix_http import connect_unix_socket

MAX_LINE_BYTES = 100_000
RESPONSE_TIMEOUT_S = 40.0
#: What looks or fetches, and decides nothing: it is asked for a console alone. Whatever else
#: changes something takes the password, also what is not known here.
INSPECT, ORDER = ("POST", "/v1/inspections"), ("POST", "/v1/jobs")
HARMLESS_ORDERS = frozenset({"check", "import", "prepare", "rehearse"})
REFUSED_REPLY, UNAVAILABLE_REPLY = b'{"refused": true}\n', b'{"away": true}\n'


def is_allowed(method: str, address: str, body: Mapping[str, Any] | None) -> bool:
    """Tell whether a request is asked for a console alone; pure."""
    if method == "GET":
        return address.startswith("/v1/")
    if (method, address) == ORDER:
        return (body or {}).get("kind") in HARMLESS_ORDERS
    return (method, address) == INSPECT


def send_request(path: Path, request: Mapping[str, Any]) -> socket.socket:
    """Send a request to the service; returns the connection, on which nothing more can be said.

    Raises:
        OSError: If the service is not there.
        ValueError: If it is no request.
    """
    method, address = str(request["method"]), str(request["address"])
    body, language = request.get("body"), str(request.get("language", "en"))
    if not (address.isascii() and address.isprintable() and " " not in address):
        raise ValueError
    if not (language.isascii() and language.replace("-", "").replace("_", "").isalnum()):
        raise ValueError
    content = json.dumps(body).encode() if body is not None else None
    headers = {"Accept-Language": language, "Connection": "close"}
    if content is not None:
        headers["Content-Type"] = "application/json"
    line = http.client.HTTPConnection("localhost")
    line.sock = connect_unix_socket(path, RESPONSE_TIMEOUT_S)
    try:
        # Who is refused at once cannot say everything; why stands in the answer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.request(method, address, content, headers)
        with contextlib.suppress(OSError):
            line.sock.shutdown(socket.SHUT_WR)
    except BaseException:
        line.close()
        raise
    return line.sock


class UserProxy:
    """Answers one console until it goes.

    Args:
        connection: To the console.
        service_socket: The socket of the service.
    """

    def __init__(self, connection: socket.socket, service_socket: Path) -> None:
        self._line, self._service = connection, service_socket

    def serve(self) -> None:
        """Answer, one request after the other, until the line ends.

        Raises:
            OSError: If it breaks.
            ValueError: If what comes on it is none of ours.
        """
        with self._line.makefile("rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
                    raise ValueError
                self._handle_request(json.loads(line))

    def _handle_request(self, request: Mapping[str, Any]) -> None:
        body = request.get("body")
        asked = (str(request["method"]), str(request["address"]), body)
        if not (body is None or isinstance(body, dict)) or not is_allowed(*asked):
            self._line.sendall(REFUSED_REPLY)
            return
        try:
            connection = send_request(self._service, request)
        except (OSError, http.client.HTTPException):
            self._line.sendall(UNAVAILABLE_REPLY)
            return
        with connection:
            socket.send_fds(self._line, [b'{"sent": true}\n'], [connection.fileno()])
