"""Whether the application can still log in as it does: through the socket, as its system user."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import sys

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.postgresql.connection import OUR_PROGRAM, Server, rows
from ncen_updater.common.messages import APPLICATION_SHUT_OUT

#: Stands in what a server says, in whatever language, to a system user whom no line lets in; a
#: password it would have asked for.
REFUSED = re.compile(r"\b(?:peer|ident)\b|pg_hba\.conf", re.IGNORECASE)
LIMIT_S = 20
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


def require_logins(server: Server, database: str, user: str | None) -> None:
    """Refuse where the application comes by the socket, and would be let in no more.

    Who comes over the network, or with a password, is not met by what stands for the socket.

    Args:
        server: The server.
        database: Physical name of one of the application's.
        user: The application's system user; else it is one with the name of the role.

    Raises:
        DatabaseError: If so.
    """
    roles = list(server.settings.admitted)
    if os.geteuid() != 0 or not server.settings.host.startswith("/"):
        return
    with server.facts() as connection:
        by_socket = [role for (role,) in rows(connection, _BY_SOCKET, [roles, f"{OUR_PROGRAM}%"])]
    for role in by_socket:
        # No such system user, or a server that says nothing in time.
        with contextlib.suppress(KeyError, subprocess.TimeoutExpired):
            who = pwd.getpwnam(user or role)
            words = _log_in(server, database, role, who)
            if REFUSED.search(words):
                raise DatabaseError(APPLICATION_SHUT_OUT, role=role, user=who.pw_name, detail=words)


def _log_in(server: Server, database: str, role: str, user: pwd.struct_passwd) -> str:
    """Return what the server says to a new session of the application's user; empty if welcome."""
    settings = server.settings
    where = f"host='{settings.host}' port={settings.port} dbname='{database}' user='{role}'"
    words = [str(user.pw_uid), str(user.pw_gid), f"{where} connect_timeout={LIMIT_S // 2}"]
    ended = subprocess.run(
        [sys.executable, "-I", "-c", _TRY, *words],
        env={"PATH": os.defpath, "HOME": user.pw_dir, "LC_ALL": "C.UTF-8", "USER": user.pw_name},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    return ended.stdout
