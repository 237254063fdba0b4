"""HTTP and server-sent events over Unix sockets, for requests to the service."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import SERVICE_SILENT

MAX_LINE = 1_000_000
MAX_RESPONSE_BYTES = 64_000_000


class ServiceUnresponsiveError(UpdaterError):
    """A service that stopped answering, or sent an invalid response."""

    message = SERVICE_SILENT


class ResponseObject(dict[str, Any]):
    """An object of a response; a missing name raises an error about the service."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        raise ServiceUnresponsiveError(
            reason=LazyText("no '{name}' in the response", {"name": name})
        )


def parse_response(content: bytes | str) -> ResponseObject:
    """Parse the JSON of a response.

    Raises:
        ServiceUnresponsiveError: If it is not a JSON object, or too large.
    """
    if len(content) > MAX_RESPONSE_BYTES:
        raise ServiceUnresponsiveError(reason="invalid response")
    try:
        found = json.loads(content, object_hook=ResponseObject)
    except (ValueError, RecursionError) as error:
        raise ServiceUnresponsiveError(reason="the response is not JSON") from error
    if not isinstance(found, ResponseObject):
        raise ServiceUnresponsiveError(reason="invalid response")
    return found


def read_response(response: http.client.HTTPResponse) -> ResponseObject:
    """Read and parse a whole response; errors as in :func:`parse_response`."""
    return parse_response(response.read(MAX_RESPONSE_BYTES + 1))


@contextlib.contextmanager
def report_connection_errors() -> Iterator[None]:
    """Raise :class:`ServiceUnresponsiveError` if the connection fails in the block."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise ServiceUnresponsiveError(reason=describe_connection_error(error)) from error


def describe_connection_error(error: Exception) -> str:
    """Return why a connection failed, without the error number."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return text or type(error).__name__


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost")
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = connect_unix_socket(self._path, self._timeout_s)


@contextlib.contextmanager
def send_request(
    path: Path,
    method: str,
    url_path: str,
    body: Mapping[str, object] | None,
    *,
    language: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request and yield the response, whatever its status; close the connection afterwards.

    Args:
        path: Path of the socket.
        method: HTTP method.
        url_path: Path of the request.
        body: Body, sent as JSON.
        language: Language of texts in the response.
        timeout_s: Maximum seconds without data.
        headers: Additional headers.

    Raises:
        OSError, http.client.HTTPException: If no valid response arrived.
    """
    headers = {**(headers or {}), "Accept-Language": language, "Connection": "close"}
    content = None
    if body is not None:
        content = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    connection = _UnixConnection(path, timeout_s)
    try:
        # A server that refuses at once may close before the request is sent; read its response.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, url_path, content, headers)
        yield connection.getresponse()
    finally:
        connection.close()


def read_events(response: http.client.HTTPResponse) -> Iterator[tuple[int | None, str, str]]:
    """Yield id, type and data of each server-sent event.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    fields: dict[str, str] = {}
    while line := response.readline(MAX_LINE):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = text.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not text and "data" in fields:
            number = fields.get("id", "")
            known = int(number) if number.isascii() and number.isdigit() else None
            yield known, fields.get("event", "message"), fields["data"]
            fields = {}
        elif not text:
            fields = {}


@contextlib.contextmanager
def shorten_socket_path(path: Path) -> Iterator[str]:
    """Yield a short address for a socket path, valid during the block.

    Raises:
        OSError: If its directory cannot be opened.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connect_unix_socket(path: Path, timeout_s: float) -> socket.socket:
    """Connect to a Unix socket.

    If its backlog is full, the call waits. (With a Python time-out the socket is non-blocking, and
    the kernel would refuse with EAGAIN.)

    Raises:
        OSError: If nothing listens there, access is denied, or the time is over.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        seconds = int(timeout_s)
        limit = struct.pack("@ll", seconds, int((timeout_s - seconds) * 1_000_000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with shorten_socket_path(path) as address:
            connection.connect(address)
        connection.settimeout(timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def get_peer_uid(connection: socket.socket) -> int:
    """Return the user id of the peer, as the kernel reports it; see unix(7)."""
    size = struct.calcsize("i2I")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("i2I", found)[1])
