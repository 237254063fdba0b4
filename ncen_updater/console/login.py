"""The process that looks at passwords, and the one of each person that asks the service for them.

The console itself may not speak with the service: it is nobody there. It names what it wants on a
line to a process that became the person (``ncen_updater.login``), and is handed the answer.
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
    CONSOLE_NO_LOGIN,
    CONSOLE_NOT_IN,
    CONSOLE_PASSWORD,
    CONSOLE_SECOND_SECRET,
    CONSOLE_WAIT,
    Message,
)
from ncen_updater.common.unix_http import ServiceSilent
from ncen_updater.common.unix_socket import connect
from ncen_updater.console.service import Document, SiteService

#: PAM lets whoever was wrong wait, and there may be a directory behind it that is far away.
LOGIN_S = 60.0
MAX_SAID = 4096
REFUSALS: Mapping[str, Message] = {
    "wrong": CONSOLE_PASSWORD,
    "wait": CONSOLE_WAIT,
    "expired": CONSOLE_EXPIRED,
    "more": CONSOLE_SECOND_SECRET,
    "away": ServiceSilent.message,
}


class LoginGone(UpdaterError):
    """The process of a person has ended: their session is over."""

    message = CONSOLE_NOT_IN


class PersonLogin:
    """Has passwords looked at.

    Args:
        path: The socket of who looks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, user: str, password: str, address: str = "") -> tuple[socket.socket, str]:
        """Return a line on which requests of a person are named, and who that is.

        Args:
            user: The name that was typed.
            password: What was typed with it.
            address: Where that was.

        Raises:
            UpdaterError: If they are not let in.
        """
        line = self._begun({"user": user, "password": password, "address": address})
        try:
            said, _ = _heard(line)
            who = str(_not_refused(said)["who"])
            line.settimeout(LOGIN_S)
        except BaseException as error:
            line.close()
            if isinstance(error, OSError | ValueError | KeyError):
                raise UpdaterError(CONSOLE_NO_LOGIN, reason=_reason(error)) from error
            raise
        return line, who

    def deciding(self, first: Mapping[str, object]) -> socket.socket:
        """Have one request made that a person answers for; returns the line with its answer.

        Args:
            first: Their name, password and address, and the request.

        Raises:
            UpdaterError: If the password is not theirs.
            ServiceSilent: If the service did not take it.
        """
        with self._begun(first) as line:
            try:
                said, found = _heard(line)
            except (OSError, ValueError) as error:
                raise UpdaterError(CONSOLE_NO_LOGIN, reason=_reason(error)) from error
        _not_refused(said)
        return _given(found)

    def _begun(self, first: Mapping[str, object]) -> socket.socket:
        try:
            line = connect(self._path, LOGIN_S)
            line.sendall(json.dumps(first).encode() + b"\n")
        except OSError as error:
            raise UpdaterError(CONSOLE_NO_LOGIN, reason=_reason(error)) from error
        return line


class BridgedService(SiteService):
    """Asks the service by the process of a person.

    Args:
        line: To that process.
        who: The person.
        login: Looks at their password once more, for what they answer for.
    """

    asks_secret = True

    def __init__(self, line: socket.socket, who: str, login: PersonLogin) -> None:
        super().__init__(Path())
        self._line, self._who, self._login = line, who, login
        self._one = threading.Lock()
        self._ended = False

    def renew(self, line: socket.socket) -> bool:
        """Go on by the process of a session that came in later; False where all have left.

        It lives longer than the one of before, whose time ends first.
        """
        with self._one:
            if self._ended:
                return False
            before, self._line = self._line, line
        _let_go(before)
        return True

    def decide(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None,
        secret: str, origin: str = "",
    ) -> Document:  # fmt: skip
        """Have something done that a person answers for, with their password.

        Raises:
            UpdaterError: If the password is not theirs.
            ServiceSilent: If no answer came that can be understood.
            ServiceRefusal: If it was refused.
        """
        request = {"method": method, "address": address, "body": body, "language": language}
        first = {"user": self._who, "password": secret, "address": origin, "act": request}
        connection = self._login.deciding(first)
        try:
            with _answer(connection, method, LOGIN_S) as response:
                return self._document(response)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceSilent(reason=_reason(error)) from error

    def end(self) -> None:
        """Let the process of the person go."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)  # also one that is waited for
        with self._one:
            self._ended = True
            _let_go(self._line)

    @contextlib.contextmanager
    def _asked(
        self, method: str, address: str, body: Mapping[str, object] | None, language: str,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:  # fmt: skip
        request = {"method": method, "address": address, "body": body, "language": language}
        with self._one:
            try:
                self._line.sendall(json.dumps(request).encode() + b"\n")
                said, found = _heard(self._line)
            except (OSError, ValueError) as error:
                raise LoginGone from error
        _not_refused(said)
        with _answer(_given(found), method, timeout_s) as response:
            yield response


def _let_go(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@contextlib.contextmanager
def _answer(
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


def _heard(line: socket.socket) -> tuple[Mapping[str, Any], list[int]]:
    """Read one line, and the connection that may come with it.

    Raises:
        OSError: If the line has ended.
        ValueError: If it says what cannot be understood.
    """
    content, found = b"", list[int]()
    while not content.endswith(b"\n"):
        part, given, _, _ = socket.recv_fds(line, MAX_SAID, 1)
        found += given
        if not part or len(content) > MAX_SAID:
            for one in found:
                socket.close(one)
            raise ConnectionError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        content += part
    said = json.loads(content)
    if not isinstance(said, dict):
        raise ValueError
    return said, found


def _not_refused(said: Mapping[str, Any]) -> Mapping[str, Any]:
    refused = said.get("refused")
    if refused is None:
        return said
    message = REFUSALS.get(str(refused), CONSOLE_NO_LOGIN)
    wait = format_duration(float(said.get("seconds", 0)))
    raise UpdaterError(message, wait=wait, reason=str(refused))


def _given(found: list[int]) -> socket.socket:
    if not found:
        raise ServiceSilent(reason="nobody listens there")
    return socket.socket(fileno=found[0])


def _reason(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__
