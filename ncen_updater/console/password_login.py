"""Clients of the login helper: check passwords, and send requests through a user's process.

The console's own user has no access to the service. The console sends each request on a connection
to a process that runs as the logged-in user (``ncen_updater.login``) and receives the connection
with the service's response.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncen_updater.common.cli.render import format_duration
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    CONSOLE_EXPIRED,
    CONSOLE_LOGIN_THROTTLED,
    CONSOLE_NO_LOGIN,
    CONSOLE_NOT_LOGGED_IN,
    CONSOLE_PASSWORD,
    CONSOLE_SECOND_SECRET,
    ErrorMessage,
)
from ncen_updater.common.unix_http import (
    ServiceUnresponsiveError,
    connect_unix_socket,
    describe_connection_error,
    report_connection_errors,
)
from ncen_updater.console.service_client import Document, ServiceClient

#: PAM delays the reply to a wrong password, and may query a remote directory.
LOGIN_TIMEOUT_S = 60.0
MAX_REPLY_BYTES = 4096
REFUSAL_MESSAGES: Mapping[str, ErrorMessage] = {
    "wrong": CONSOLE_PASSWORD,
    "wait": CONSOLE_LOGIN_THROTTLED,
    "expired": CONSOLE_EXPIRED,
    "more": CONSOLE_SECOND_SECRET,
    "unreachable": ServiceUnresponsiveError.message,
}


class SessionEndedError(UpdaterError):
    """The user's process has ended, and so has the session."""

    message = CONSOLE_NOT_LOGGED_IN


class LoginClient:
    """Client of the login helper.

    Args:
        path: Socket of the login helper.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def log_in(self, user: str, password: str, address: str = "") -> tuple[socket.socket, str]:
        """Check a password; return the connection to the user's process and the account name.

        Args:
            user: User name as typed.
            password: Password as typed.
            address: Client address of the browser.

        Raises:
            UpdaterError: If the login is refused.
        """
        connection = self._connect({"user": user, "password": password, "address": address})
        try:
            reply, _ = _receive_reply(connection)
            name = str(_raise_if_refused(reply)["name"])
            connection.settimeout(LOGIN_TIMEOUT_S)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | ValueError | KeyError):
                raise UpdaterError(
                    CONSOLE_NO_LOGIN, reason=describe_connection_error(error)
                ) from error
            raise
        return connection, name

    def send_confirmed(self, first: Mapping[str, object]) -> socket.socket:
        """Send one request that needs a password; return the connection with its response.

        Args:
            first: User name, password, client address and the request.

        Raises:
            UpdaterError: If the password is wrong.
            ServiceUnresponsiveError: If the service did not accept the request.
        """
        with self._connect(first) as connection:
            try:
                reply, descriptors = _receive_reply(connection)
            except (OSError, ValueError) as error:
                raise UpdaterError(
                    CONSOLE_NO_LOGIN, reason=describe_connection_error(error)
                ) from error
        _raise_if_refused(reply)
        return _adopt_descriptor(descriptors)

    def _connect(self, first: Mapping[str, object]) -> socket.socket:
        try:
            connection = connect_unix_socket(self._path, LOGIN_TIMEOUT_S)
            connection.sendall(json.dumps(first).encode() + b"\n")
        except OSError as error:
            raise UpdaterError(CONSOLE_NO_LOGIN, reason=describe_connection_error(error)) from error
        return connection


class ProxiedServiceClient(ServiceClient):
    """Client of the service that sends requests through a user's process.

    Args:
        connection: Connection to that process.
        user: User name.
        login: Checks the password again for requests that need one.
    """

    requires_password = True

    def __init__(self, connection: socket.socket, user: str, login: LoginClient) -> None:
        super().__init__(Path())
        self._connection, self._user, self._login = connection, user, login
        self._lock = threading.Lock()
        self._closed = False

    def replace_connection(self, connection: socket.socket) -> bool:
        """Use the process of a newer login; return False if this client is closed.

        The newer process ends later than the previous one.
        """
        with self._lock:
            if self._closed:
                return False
            previous, self._connection = self._connection, connection
        _close_socket(previous)
        return True

    def call_with_password(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None,
        secret: str, origin: str = "",
    ) -> Document:  # fmt: skip
        """Send a request that needs the user's password.

        Raises:
            UpdaterError: If the password is wrong.
            ServiceUnresponsiveError: If there was no valid response.
            ServiceRefusedError: If the service refused the request.
        """
        request = {"method": method, "address": address, "body": body, "language": language}
        first = {"user": self._user, "password": secret, "address": origin, "request": request}
        connection = self._login.send_confirmed(first)
        with (
            report_connection_errors(),
            _read_response(connection, method, LOGIN_TIMEOUT_S) as response,
        ):
            return self._parse_response(response)

    def close(self) -> None:
        """Close the connection, which ends the user's process."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(
                socket.SHUT_RDWR
            )  # also wakes a thread that waits for a reply
        with self._lock:
            self._closed = True
            _close_socket(self._connection)

    @contextlib.contextmanager
    def _request(
        self, method: str, address: str, body: Mapping[str, object] | None, language: str,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:  # fmt: skip
        request = {"method": method, "address": address, "body": body, "language": language}
        with self._lock:
            try:
                self._connection.sendall(json.dumps(request).encode() + b"\n")
                reply, descriptors = _receive_reply(self._connection)
            except (OSError, ValueError) as error:
                raise SessionEndedError from error
        _raise_if_refused(reply)
        with _read_response(_adopt_descriptor(descriptors), method, timeout_s) as response:
            yield response


def _close_socket(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def _read_response(
    connection: socket.socket, method: str, timeout_s: float
) -> Iterator[http.client.HTTPResponse]:
    with connection:
        connection.settimeout(timeout_s)
        response = http.client.HTTPResponse(connection, method=method)
        try:
            response.begin()
            yield response
        finally:
            response.close()


def _receive_reply(connection: socket.socket) -> tuple[Mapping[str, Any], list[int]]:
    """Receive one line of JSON and the file descriptor that may come with it.

    Raises:
        OSError: If the connection was closed.
        ValueError: If the line is not a JSON object.
    """
    content, descriptors = b"", list[int]()
    while not content.endswith(b"\n"):
        part, received, _, _ = socket.recv_fds(connection, MAX_REPLY_BYTES, 1)
        descriptors += received
        if not part or len(content) > MAX_REPLY_BYTES:
            for one in descriptors:
                socket.close(one)
            raise ConnectionError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        content += part
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError
    return value, descriptors


def _raise_if_refused(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    refused = reply.get("refused")
    if refused is None:
        return reply
    message = REFUSAL_MESSAGES.get(str(refused), CONSOLE_NO_LOGIN)
    wait = format_duration(float(reply.get("seconds", 0)))
    raise UpdaterError(message, wait=wait, reason=str(refused))


def _adopt_descriptor(descriptors: list[int]) -> socket.socket:
    if not descriptors:
        raise ServiceUnresponsiveError(reason="connection refused")
    return socket.socket(fileno=descriptors[0])
