"""``python -m ncen_updater.login.helper``: one connection of the console, one user.

The first line contains a user name, the password and the client's address. It is accepted only from
the console's own user. PAM is asked only about users who may use the service. Any other user and a
wrong password get the same reply after the same time; repeated failures are delayed. Then the
process switches to that user for good, with the user's groups and ``no_new_privs``. It either sends
the one request that came with the password to the service, or forwards requests of the console
until the console closes the connection.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import json
import logging
import os
import pwd
import socket
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ncen_updater.common.unix_http import get_peer_uid
from ncen_updater.login.login_throttle import LoginThrottle, list_limits
from ncen_updater.login.pam import PamService, PamVerdict
from ncen_updater.login.user_proxy import MAX_LINE_BYTES, UserProxy, is_allowed, send_request

logger = logging.getLogger("ncen-updater-login")

#: Name of the PAM configuration, /etc/pam.d/ncen-updater.
PAM_SERVICE_NAME = "ncen-updater"
FIRST_LINE_TIMEOUT_S = 10.0
#: A connection of the console that is idle for this time is abandoned.
IDLE_TIMEOUT_S = 3600.0
MAX_NAME_CHARS, MAX_PASSWORD_CHARS = 100, 1000
#: A refusal is sent after a multiple of this time, which exceeds PAM's check and its own delay.
REFUSED_S = 4.0
_NO_NEW_PRIVILEGES = 38  # prctl(2)


class LoginHelper:
    """Serves one connection.

    Args:
        connection: Connection to the console.
        console_uid: UID of the console's user.
        service_socket: Socket of the site's service.
        pam: Checks passwords.
        throttle: Delays repeated attempts.
        refused_s: A refusal is sent after a multiple of this time, in seconds.
    """

    def __init__(
        self,
        connection: socket.socket,
        console_uid: int,
        service_socket: Path,
        pam: PamService,
        throttle: LoginThrottle,
        refused_s: float = REFUSED_S,
    ) -> None:
        self._line, self._console_uid, self._service = connection, console_uid, service_socket
        self._pam, self._throttle, self._refused_s = pam, throttle, refused_s

    def run(self) -> None:
        """Check one login and serve its user, or refuse it.

        Raises:
            OSError: If the connection breaks, or the process cannot switch to the user.
            ValueError: If the first line is invalid.
        """
        if get_peer_uid(self._line) != self._console_uid:
            self._send_reply(refused="foreign")
            return
        self._line.settimeout(FIRST_LINE_TIMEOUT_S)
        first = self._read_first_line()
        user, password = str(first["user"]), str(first["password"])
        address, request = _parse_address(first.get("address")), first.get("request")
        if request is not None and not _needs_password(request):
            self._send_reply(refused="foreign")
            return
        try:
            socket_info = self._service.stat()
        except OSError:  # its permissions, and so the allowed users, are unknown
            self._send_reply(refused="unreachable")
            return
        started, entry = time.monotonic(), _find_account(user)
        name = entry.pw_name if entry is not None else user.casefold()
        limits = list_limits(name, address, logged_in=request is not None)
        wait = self._throttle.record_attempt(limits)
        if wait > 0:
            self._send_reply(refused="wait", seconds=round(wait) + 1)
            return
        verdict, reason = PamVerdict.WRONG, "the account may not use the service"
        if entry is not None and entry.pw_uid != 0 and _may_connect(socket_info, entry):
            verdict = self._check_password(entry, password, address)
            reason = verdict.value
        del password
        if entry is None or verdict is not PamVerdict.ACCEPTED:
            # the user may have typed a password as the name
            logged_name = name if entry is not None else "an unknown name"
            logger.info("login of %s from %s refused: %s", logged_name, address or "-", reason)
            if self._refused_s:
                time.sleep(self._refused_s - (time.monotonic() - started) % self._refused_s)
            self._send_reply(refused=verdict.value)
            return
        self._throttle.clear_attempts(limits)
        switch_user(entry)
        action = "logged in" if request is None else "confirmed a request"
        logger.info("%s %s from %s", entry.pw_name, action, address or "-")
        if request is None:
            self._send_reply(name=entry.pw_name, uid=entry.pw_uid)
            self._line.settimeout(IDLE_TIMEOUT_S)
            UserProxy(self._line, self._service).serve()
        else:
            self._forward_request(request)

    def _check_password(self, entry: pwd.struct_passwd, password: str, address: str) -> PamVerdict:
        """Check the password with PAM; refuse it if PAM maps the name to another account."""
        if len(password) > MAX_PASSWORD_CHARS:
            return PamVerdict.WRONG
        result = self._pam.check_password(entry.pw_name, password, address)
        if result.detail:
            logger.warning("a password could not be checked: %s", result.detail)
        accepted = result.verdict is PamVerdict.ACCEPTED
        is_other = accepted and _find_account(result.user) != entry
        return PamVerdict.WRONG if is_other else result.verdict

    def _read_first_line(self) -> Mapping[str, Any]:
        """Read the first line byte by byte: later bytes belong to :class:`UserProxy`."""
        content = bytearray()
        while not content.endswith(b"\n"):
            byte = self._line.recv(1)
            if not byte or len(content) > MAX_LINE_BYTES:
                raise ValueError
            content += byte
        found = json.loads(content)
        if not isinstance(found, dict):
            raise TypeError
        return found

    def _forward_request(self, request: Mapping[str, Any]) -> None:
        try:
            connection = send_request(self._service, request)
        except (OSError, http.client.HTTPException):
            self._send_reply(unreachable=True)
            return
        with connection:
            socket.send_fds(self._line, [b'{"sent": true}\n'], [connection.fileno()])

    def _send_reply(self, **values: object) -> None:
        self._line.sendall(json.dumps(values).encode() + b"\n")


def _needs_password(request: object) -> bool:
    """Return whether a request needs a password; :class:`UserProxy` forwards all others."""
    if not isinstance(request, dict) or not isinstance(request.get("body"), dict | None):
        return False
    method, address = str(request.get("method")), str(request.get("address"))
    return not is_allowed(method, address, request.get("body"))


def switch_user(entry: pwd.struct_passwd) -> None:
    """Switch to a user and their groups for good, without a way to gain privileges.

    Raises:
        OSError: If the switch failed; the process must then do nothing.
    """
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getresuid() != (entry.pw_uid,) * 3 or os.getresgid() != (entry.pw_gid,) * 3:
        raise PermissionError
    os.environ.clear()
    os.chdir("/")


def _find_account(user: str) -> pwd.struct_passwd | None:
    """Return the account with this name; None if there is none."""
    try:
        return pwd.getpwnam(user) if 0 < len(user) <= MAX_NAME_CHARS else None
    except (KeyError, ValueError):  # unknown, or not a valid name
        return None


def _may_connect(service: os.stat_result, entry: pwd.struct_passwd) -> bool:
    """Return whether an account may connect to the service, by the permissions of its socket."""
    if service.st_uid == entry.pw_uid:
        return bool(service.st_mode & stat.S_IWUSR)
    member = service.st_gid in os.getgrouplist(entry.pw_name, entry.pw_gid)
    return bool(service.st_mode & (stat.S_IWGRP if member else stat.S_IWOTH))


def _parse_address(given: object) -> str:
    """Return an IP address in canonical form; empty if it is not one."""
    try:
        return str(ip_address(str(given)))
    except ValueError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the connection on standard input."""
    parser = argparse.ArgumentParser(prog="ncen_updater.login.helper", allow_abbrev=False)
    parser.add_argument("--console", required=True, help="name of the console's user")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--tries", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as line:
        helper = LoginHelper(
            line, pwd.getpwnam(given.console).pw_uid, given.socket, PamService(PAM_SERVICE_NAME),
            LoginThrottle(given.tries),
        )  # fmt: skip
        try:
            helper.run()
        except (OSError, ValueError, TypeError, LookupError) as error:
            logger.warning("a session ended: %s", type(error).__name__)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
