"""``python -m ncen_updater.login.helper``: one connection of the console, one person.

The first line names a person and their password. It is believed if it comes from the console's own
user; the password is looked at by the system, which waits after a wrong one, and each name has to
wait longer the more often it was wrong. Then this process becomes that person for good: with their
groups, without the means to become anybody else. It either asks the service for the one thing that
came with the password, or answers for the console until that lets go.
"""

from __future__ import annotations

import argparse
import ctypes
import grp
import http.client
import json
import logging
import os
import pwd
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncen_updater.common.unix_socket import peer_uid
from ncen_updater.login.bridge import MAX_LINE, Bridge, grave, sent
from ncen_updater.login.pam import PamService, PamVerdict
from ncen_updater.login.tries import Tries

__all__ = ["SERVICE", "LoginHelper", "main"]

logger = logging.getLogger("ncen-updater-login")

#: Of the file of rules, /etc/pam.d/ncen-updater.
SERVICE = "ncen-updater"
FIRST_LINE_S = 10.0
#: A console that says nothing for so long has forgotten its person.
IDLE_S = 3600.0
MAX_NAME, MAX_PASSWORD = 100, 1000
_NO_NEW_PRIVILEGES = 38  # prctl(2)


class LoginHelper:
    """Serves one connection.

    Args:
        line: To the console.
        console: Number of its user.
        service: The socket of the service of the site.
        pam: Judges passwords.
        tries: Counts them.
    """

    def __init__(
        self, line: socket.socket, console: int, service: Path, pam: PamService, tries: Tries
    ) -> None:
        self._line, self._console, self._service = line, console, service
        self._pam, self._tries = pam, tries

    def run(self) -> None:
        """Let one person in and answer for them, or say why not.

        Raises:
            OSError: If the line breaks, or this process cannot become the person.
            ValueError: If what comes is none of ours.
        """
        if peer_uid(self._line) != self._console:
            self._say(refused="foreign")
            return
        self._line.settimeout(FIRST_LINE_S)
        asked = self._first()
        user, password = str(asked["user"]), str(asked["password"])
        act = asked.get("act")
        if act is not None and not _is_grave(act):
            self._say(refused="foreign")
            return
        if not 0 < len(user) <= MAX_NAME or len(password) > MAX_PASSWORD:
            self._say(refused="wrong")
            return
        wait = self._tries.begin(user)
        if wait > 0:
            self._say(refused="wait", seconds=round(wait) + 1)
            return
        answer = self._pam.check(user, password)
        del password
        if answer.verdict is not PamVerdict.RIGHT:
            if answer.detail:
                logger.warning("a password could not be looked at: %s", answer.detail)
            self._say(refused=answer.verdict.value)
            return
        self._tries.right(user)
        entry = pwd.getpwnam(answer.user)
        if entry.pw_uid == 0:  # root is no person, and the service counts them as nobody
            self._say(refused="root")
            return
        become(entry)
        group = shut_out(self._service)
        if group is not None:
            logger.info("%s is not in the group %s", entry.pw_name, group)
            self._say(refused="outside", user=entry.pw_name, group=group)
            return
        logger.info("%s came in%s", entry.pw_name, "" if act is None else " to decide")
        if act is None:
            self._say(who=entry.pw_name, uid=entry.pw_uid)
            self._line.settimeout(IDLE_S)
            Bridge(self._line, self._service).serve()
        else:
            self._do(act)

    def _first(self) -> Mapping[str, Any]:
        """Read the first line, byte by byte: what follows belongs to the bridge."""
        content = bytearray()
        while not content.endswith(b"\n"):
            byte = self._line.recv(1)
            if not byte or len(content) > MAX_LINE:
                raise ValueError
            content += byte
        found = json.loads(content)
        if not isinstance(found, dict):
            raise TypeError
        return found

    def _do(self, act: Mapping[str, Any]) -> None:
        try:
            connection = sent(self._service, act)
        except (OSError, http.client.HTTPException):
            self._say(away=True)
            return
        with connection:
            socket.send_fds(self._line, [b'{"sent": true}\n'], [connection.fileno()])

    def _say(self, **values: object) -> None:
        self._line.sendall(json.dumps(values).encode() + b"\n")


def _is_grave(act: object) -> bool:
    """Whether a request is of those that take a password; anything else has the bridge."""
    if not isinstance(act, dict) or not isinstance(act.get("body"), dict):
        return False
    return grave(str(act.get("method")), str(act.get("address")), act["body"])


def become(entry: pwd.struct_passwd) -> None:
    """Be somebody for good, with their groups, and never more than that.

    Raises:
        OSError: If that did not come about: nothing may be done then.
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


def shut_out(service: Path) -> str | None:
    """Return whose members alone may ask the service, where this process may not; None elsewhere.

    A service that is not there lets nobody in either, which is told when it is asked.
    """
    try:
        group = service.stat().st_gid
    except OSError:
        return None
    if os.access(service, os.W_OK):
        return None
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the connection that is the standard input."""
    parser = argparse.ArgumentParser(prog="ncen_updater.login.helper", allow_abbrev=False)
    parser.add_argument("--console", required=True, help="name of the console's user")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--tries", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as line:
        helper = LoginHelper(
            line, pwd.getpwnam(given.console).pw_uid, given.socket, PamService(SERVICE),
            Tries(given.tries),
        )  # fmt: skip
        try:
            helper.run()
        except (OSError, ValueError, TypeError, LookupError) as error:
            logger.warning("a session ended: %s", type(error).__name__)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
