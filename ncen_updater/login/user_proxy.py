"""Forward requests of the console to the service, as the user that this process switched to.

The console sends a request as one line of JSON. If the request is allowed, this process sends it to
the service on a new connection as the user, closes the connection for writing, and passes its file
descriptor: the console can read the response but send nothing more. Decisions (an approval, an
upgrade, a schedule, a hold) are never forwarded this way: they need the password again, and
``helper`` forwards them.
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
#: Requests that decide nothing (reads, inspections, preparatory jobs) are forwarded without a
#: password. Any other request needs it, including unknown ones.
CREATE_INSPECTION, CREATE_JOB = ("POST", "/v1/inspections"), ("POST", "/v1/jobs")
PREPARATORY_JOBS = frozenset({"check", "import", "prepare", "rehearse"})
REFUSED_REPLY, UNAVAILABLE_REPLY = b'{"refused": true}\n', b'{"unreachable": true}\n'


def is_allowed(method: str, address: str, body: Mapping[str, Any] | None) -> bool:
    """Return whether a request is forwarded without a password. Pure."""
    if method == "GET":
        return address.startswith("/v1/")
    if (method, address) == CREATE_JOB:
        return (body or {}).get("kind") in PREPARATORY_JOBS
    return (method, address) == CREATE_INSPECTION


def send_request(path: Path, request: Mapping[str, Any]) -> socket.socket:
    """Send a request to the service; return the connection, already closed for writing.

    Raises:
        OSError: If the service is not reachable.
        ValueError: If the request is invalid.
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
    client = http.client.HTTPConnection("localhost")
    client.sock = connect_unix_socket(path, RESPONSE_TIMEOUT_S)
    try:
        # The service may refuse and close before the request is sent; its response says why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.request(method, address, content, headers)
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_WR)
    except BaseException:
        client.close()
        raise
    return client.sock


class UserProxy:
    """Forwards requests of one console connection.

    Args:
        connection: Connection to the console.
        service_socket: Socket of the service.
    """

    def __init__(self, connection: socket.socket, service_socket: Path) -> None:
        self._line, self._service = connection, service_socket

    def serve(self) -> None:
        """Serve one request after the other until the connection ends.

        Raises:
            OSError: If the connection breaks.
            ValueError: If a request is invalid.
        """
        with self._line.makefile("rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
                    raise ValueError
                self._handle_request(json.loads(line))

    def _handle_request(self, request: Mapping[str, Any]) -> None:
        body = request.get("body")
        route = (str(request["method"]), str(request["address"]), body)
        if not (body is None or isinstance(body, dict)) or not is_allowed(*route):
            self._line.sendall(REFUSED_REPLY)
            return
        try:
            connection = send_request(self._service, request)
        except (OSError, http.client.HTTPException):
            self._line.sendall(UNAVAILABLE_REPLY)
            return
        with connection:
            socket.send_fds(self._line, [b'{"sent": true}\n'], [connection.fileno()])
