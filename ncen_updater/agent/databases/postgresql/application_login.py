"""Whether the application can still log in as it does: through the socket, as its system user."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys

from psycopg.conninfo import make_conninfo

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.postgresql.blockers import BlockerKind
from ncen_updater.agent.databases.postgresql.connection import OUR_PROGRAM, Server, rows
from ncen_updater.agent.databases.postgresql.refusal import ADMITS, NOT_ADMITTED, ask_sqlstate
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import APPLICATION_SHUT_OUT

LOGIN_UNKNOWN = BlockerKind(
    "NU-4171",
    Severity.ADVISORY,
    N_("Whether the application can log in as {role} could not be determined: {reason}"),
    N_("Start the application, name its system user below [application] in agent.toml, and run"
       " 'sudo ncen-updater doctor'."),
)  # fmt: skip
LIMIT_S = 10
# Becomes the user for good before it speaks with anybody.
_TRY = f"""
import json, os, sys
from ncen_updater.agent.databases.postgresql.refusal import ask_sqlstate
uid, gid = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
print(json.dumps(ask_sqlstate(sys.argv[3], {LIMIT_S})))
"""
# By the socket a session has no port; of one that the agent may not see there is none either.
# Sessions of before a reload go on, whatever the lines say.
_SESSIONS = """
SELECT usename, bool_or(client_port = -1) FROM pg_stat_activity
WHERE client_port IS NOT NULL AND usename = ANY(%s) AND application_name NOT LIKE %s
GROUP BY usename ORDER BY usename
"""


def find_login_trouble(server: Server, database: str, user: str | None) -> tuple[Finding, ...]:
    """Log in as the application does, and tell where that could not be judged.

    Who comes over the network, or with a password, is not met by what stands for the socket. Where
    there is no session at all, it is tried through the socket, and a refusal proves nothing.

    Args:
        server: The server.
        database: Physical name of one of the application's.
        user: The application's system user; else, to root, one with the name of the role, and to
            anybody else whoever asks.

    Raises:
        DatabaseError: If the application comes through the socket, and would be let in no more.
    """
    settings = server.settings
    if not settings.host.startswith(("/", "@")):
        return ()
    with server.facts() as connection:
        roles = list(settings.admitted)
        seen = dict(rows(connection, _SESSIONS, [roles, f"{OUR_PROGRAM}%"]))
    if seen and not any(seen.values()):
        return ()  # all come over the network
    found = []
    for role in [role for role, by_socket in seen.items() if by_socket] or [settings.owner]:
        name = user or (role if os.geteuid() == 0 else None)
        where = make_conninfo(host=settings.host, port=settings.port, dbname=database, user=role)
        code, words = _log_in(where, name)
        if code == NOT_ADMITTED and seen and name is not None:
            raise DatabaseError(APPLICATION_SHUT_OUT, role=role, user=name, detail=str(words))
        if code not in ADMITS:
            found.append(LOGIN_UNKNOWN.found(role=role, reason=words))
    return tuple(found)


def _log_in(where: str, name: str | None) -> tuple[str | None, str | Text]:
    """Return what the server answers a new session of a system user, or why nobody asked it."""
    try:
        user = pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
    except KeyError:
        return None, Text(N_("the system has no user {user}"), {"user": name})
    if user.pw_uid == os.geteuid():
        return ask_sqlstate(where, LIMIT_S)
    if os.geteuid() != 0:
        return None, Text(N_("only root can try it as {user}"), {"user": name})
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", _TRY, str(user.pw_uid), str(user.pw_gid), where],
            env={"PATH": os.defpath, "HOME": user.pw_dir, "USER": user.pw_name}, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * LIMIT_S,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        values = {"user": name, "kind": type(error).__name__}
        return None, Text(N_("the attempt as {user} failed: {kind}"), values)
    code, words = json.loads(ended.stdout)
    return code, words
