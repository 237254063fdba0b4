"""Whether the application can still log in as it does: through the socket, as its system user."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ncen_updater.agent.databases.base import RunAs
from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.postgresql.connection import OUR_PROGRAM, Server, rows
from ncen_updater.common.messages import APPLICATION_LOCKED_OUT

__all__ = ["locked_out", "require_logins"]

#: What a server says to a system user whom no line lets in; a password it would have asked for.
REFUSED = re.compile(r"(?:Peer|Ident) authentication failed|no pg_hba\.conf entry")
LIMIT_S = 30.0
# Becomes the user for good before it speaks with anybody.
_TRY = """
import os, sys, psycopg
uid, gid = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
try:
    psycopg.connect(sys.argv[3]).close()
except psycopg.Error as error:
    sys.stdout.write(str(error))
"""
# By the socket a session has no port. Sessions of before a reload go on, whatever the lines say.
_BY_SOCKET = """
SELECT DISTINCT usename FROM pg_stat_activity
WHERE client_port = -1 AND usename = ANY(%s) AND application_name NOT LIKE %s
"""


def locked_out(said: Mapping[str, str], by_socket: Sequence[str]) -> tuple[str, str] | None:
    """Return the first role that the application could not log in as again; pure.

    Args:
        said: By role, what the server said to a new session by the socket.
        by_socket: Roles of which others have sessions by the socket.

    Returns:
        The role, and the server's words. None where the application has another way: who comes
        over the network, or with a password, is not met by what stands for the socket.
    """
    return next(
        (
            (role, words)
            for role, words in said.items()
            if role in by_socket and REFUSED.search(words)
        ),
        None,
    )


def require_logins(server: Server, databases: Sequence[str], user: RunAs | None) -> None:
    """Refuse where the application's roles are used by the socket, and its user is let in no more.

    Args:
        server: The server.
        databases: Physical names.
        user: The application's system user; else it is one with the name of the role.

    Raises:
        DatabaseError: If so.
    """
    roles = list(server.settings.admitted)
    if os.geteuid() != 0 or not server.settings.host.startswith("/"):
        return
    with server.facts() as connection:
        by_socket = [role for (role,) in rows(connection, _BY_SOCKET, [roles, f"{OUR_PROGRAM}%"])]
    users = {role: known for role in by_socket if (known := user or _namesake(role))}
    said = {role: _log_in(server, databases[0], role, known) for role, known in users.items()}
    found = locked_out(said, by_socket)
    if found is not None:
        role, words = found
        name = users[role].name
        raise DatabaseError(APPLICATION_LOCKED_OUT, role=role, user=name, detail=words)


def _namesake(role: str) -> RunAs | None:
    """Return the system user who is let in as a role where nothing else is said."""
    try:
        entry = pwd.getpwnam(role)
    except KeyError:
        return None
    return RunAs(role, entry.pw_uid, entry.pw_gid, entry.pw_dir) if entry.pw_uid else None


def _log_in(server: Server, database: str, role: str, user: RunAs) -> str:
    """Return what the server says to a new session of the application's user; empty if welcome."""
    settings = server.settings
    where = f"host='{settings.host}' port={settings.port} dbname='{database}' user='{role}'"
    timeout = f"connect_timeout={server.limits.connect_s}"
    ended = subprocess.run(
        [sys.executable, "-I", "-c", _TRY, str(user.uid), str(user.gid), f"{where} {timeout}"],
        env={"PATH": os.defpath, "HOME": user.home, "LC_ALL": "C.UTF-8", "USER": user.name},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    return ended.stdout
