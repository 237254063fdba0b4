"""Findings about the database roles: excess privileges, and logins of the application that fail.

Anyone with the application's role (its password, or a hole in the application) can plant functions
in its databases, which would then run in the agent's sessions. So these sessions use the
application's role, the agent is no superuser, and the application's role cannot connect to the
control database.

A test login runs as the application's system user: root starts a process for it.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.conninfo import make_conninfo

from ncen_updater.agent.adapters.databases.postgresql.blockers import FindingTemplate
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    ADMITS,
    APPLICATION_NAME,
    NOT_ADMITTED,
    Server,
    ask_sqlstate,
    fetch_rows,
    quote_identifier,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import APPLICATION_SHUT_OUT

#: Maximum sessions of the application's role: for queries and migrations of one database, and for
#: all databases while a backup is restored.
SESSIONS_PER_DATABASE, RESTORE_SESSIONS = 2, 3

AGENT_IS_SUPERUSER = FindingTemplate(
    "NU-4163",
    Severity.CRITICAL,
    N_("Database role {role} is a superuser"),
    N_('Run as another superuser: ALTER ROLE "{role}" NOSUPERUSER CREATEDB; GRANT "{owner}",'
        ' pg_signal_backend, pg_read_all_settings, pg_read_all_stats TO "{role}";'),
)  # fmt: skip
NO_OWNER_LOGIN = FindingTemplate(
    "NU-4164",
    Severity.WARNING,
    N_("Cannot log in as {owner}: no rehearsal, and migrations run as {role}"),
    N_("Add to pg_ident.conf: 'ncen root {owner}' and 'ncen {owner} {owner}'; to pg_hba.conf,"
        " above the other 'local' lines: 'local all {owner} peer map=ncen'. Then run: systemctl"
        " reload postgresql"),
)  # fmt: skip
CONTROL_DATABASE_EXPOSED = FindingTemplate(
    "NU-4165",
    Severity.CRITICAL,
    N_("Control database {control} is accessible to the application: {reaching} can connect"
        " or act as {role}"),
    N_('Run as superuser: REVOKE CONNECT ON DATABASE "{control}" FROM PUBLIC, {quoted_reaching};'
        ' REVOKE "{role}" FROM {quoted_reaching};'
        " and use a separate role for 'user' in agent.toml."),
)  # fmt: skip
CONNECTION_LIMIT_TOO_LOW = FindingTemplate(
    "NU-4166",
    Severity.CRITICAL,
    N_("Connection limit of role {owner} too low: {limit}, {needed} required"),
    N_('Run as superuser: ALTER ROLE "{owner}" CONNECTION LIMIT -1;'),
)
LOGIN_UNKNOWN = FindingTemplate(
    "NU-4171",
    Severity.WARNING,
    N_("Cannot check the login of the application as {role}: {reason}"),
    N_("Start the application, set its system user under [application] in agent.toml, then"
        " run: ncen-updater doctor"),
)  # fmt: skip
LOGIN_LIMIT_S = 10
# The child switches to the user for good before it connects.
_LOGIN_PROGRAM = f"""
import json, os, sys
from ncen_updater.agent.adapters.databases.postgresql.connection import ask_sqlstate
uid, gid = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
print(json.dumps(ask_sqlstate(sys.argv[3], {LOGIN_LIMIT_S})))
"""
# A session by the socket has port -1; the port is NULL if the agent may not see the session.
# Sessions opened before a reload continue, whatever pg_hba.conf says now.
_SESSIONS = """
SELECT usename, bool_or(client_port = -1) FROM pg_stat_activity
WHERE client_port IS NOT NULL AND usename = ANY(%s) AND application_name NOT LIKE %s
GROUP BY usename ORDER BY usename
"""


@dataclass(frozen=True)
class RoleSurvey:
    """Facts of the roles.

    Attributes:
        superuser: Whether the agent's role is a superuser.
        application_is_superuser: Whether the application's role is a superuser: nothing can be
            closed to it.
        connection_limit: Connection limit of the application's role; -1 if there is none.
        can_log_in: Whether the agent can log in as the application's role.
        control_database_roles: Roles of the application that can connect to the control database or
            act as the agent's role.
    """

    superuser: bool = False
    application_is_superuser: bool = False
    connection_limit: int = -1
    can_log_in: bool = True
    control_database_roles: Sequence[str] = ()


def survey_roles(server: Server, databases: Sequence[str]) -> RoleSurvey | None:
    """Read the facts of the roles; None if the application's role is missing (reported elsewhere).

    Args:
        server: The server.
        databases: Physical names of the live databases.

    Raises:
        DatabaseUnreachableError: If the agent could log in as the application's role before, and
            cannot now.
    """
    settings = server.settings
    with server.open_control_session() as connection:
        rows = fetch_rows(
            connection,
            "SELECT me.rolsuper, o.rolsuper, o.rolconnlimit FROM pg_roles me, pg_roles o"
            " WHERE me.rolname = current_user AND o.rolname = %s",
            [settings.owner],
        )
        if not rows:
            return None
        reaching = fetch_rows(
            connection,
            "SELECT r.rolname FROM pg_roles r WHERE r.rolname = ANY(%s) AND ("
            " pg_has_role(r.oid, current_user::regrole::oid, 'MEMBER') OR EXISTS ("
            " SELECT FROM pg_database d WHERE d.datname = %s"
            " AND has_database_privilege(r.oid, d.oid, 'CONNECT'))) ORDER BY 1",
            [[settings.owner, *settings.application_roles], settings.control_database],
        )
    superuser, application_is_superuser, limit = rows[0]
    can_log_in = server.check_owner_login(databases[0])
    return RoleSurvey(
        superuser, application_is_superuser, limit, can_log_in, [name for (name,) in reaching]
    )


def find_exposures(
    seen: RoleSurvey,
    *,
    databases: int,
    role: str,
    owner: str,
    control: str,
    rehearsing: bool = False,
) -> tuple[Finding, ...]:
    """Return the findings; pure.

    Args:
        seen: The facts of the roles.
        databases: The number of live databases.
        role: The agent's role.
        owner: The application's role.
        control: Name of the control database.
        rehearsing: Whether a rehearsal follows, which runs code in a restored backup.
    """
    found: list[Finding] = []
    if seen.superuser:
        found.append(AGENT_IS_SUPERUSER.make_finding(role=role, owner=owner))
    if not seen.can_log_in:
        severity = Severity.CRITICAL if rehearsing else Severity.WARNING
        found.append(NO_OWNER_LOGIN.make_finding(severity, role=role, owner=owner))
    if seen.control_database_roles:
        # Nothing can be closed to a superuser: so this is a warning until the application's role
        # changes.
        severity = Severity.WARNING if seen.application_is_superuser else Severity.CRITICAL
        found.append(
            CONTROL_DATABASE_EXPOSED.make_finding(
                severity,
                control=control,
                role=role,
                reaching=", ".join(seen.control_database_roles),
                quoted_reaching=", ".join(map(quote_identifier, seen.control_database_roles)),
            )
        )
    needed = max(databases * SESSIONS_PER_DATABASE, RESTORE_SESSIONS)
    if seen.can_log_in and 0 <= seen.connection_limit < needed:
        found.append(
            CONNECTION_LIMIT_TOO_LOW.make_finding(
                owner=owner, limit=seen.connection_limit, needed=needed
            )
        )
    return tuple(found)


# ---- test logins of the application -------------------------------------------------------------


def find_login_trouble(server: Server, database: str, user: str | None) -> tuple[Finding, ...]:
    """Log in as the application does, and report each role for which the test is inconclusive.

    The test uses the socket. It says nothing about an application that connects by network or with
    a password. If the application has no session, a refusal proves nothing.

    Args:
        server: The server.
        database: Physical name of one of the application's databases.
        user: The application's system user; if None, root uses the user named like the role, and
            any other caller its own user.

    Raises:
        DatabaseError: If the application uses the socket, and its next login would be refused.
    """
    settings = server.settings
    if not settings.host.startswith(("/", "@")):
        return ()
    with server.open_control_session() as connection:
        roles = list(settings.connect_roles)
        seen = dict(fetch_rows(connection, _SESSIONS, [roles, f"{APPLICATION_NAME}%"]))
    if seen and not any(seen.values()):
        return ()  # all of them use the network
    found = []
    for role in [role for role, by_socket in seen.items() if by_socket] or [settings.owner]:
        name = user or (role if os.geteuid() == 0 else None)
        conninfo = make_conninfo(host=settings.host, port=settings.port, dbname=database, user=role)
        code, message = try_login(conninfo, name)
        if code == NOT_ADMITTED and seen and name is not None:
            raise DatabaseError(APPLICATION_SHUT_OUT, role=role, user=name, detail=str(message))
        if code not in ADMITS:
            found.append(LOGIN_UNKNOWN.make_finding(role=role, reason=message))
    return tuple(found)


def try_login(conninfo: str, name: str | None) -> tuple[str | None, str | LazyText]:
    """Return SQLSTATE and message of a login of a system user (None: this process's user).

    Returns:
        The SQLSTATE is None if the login could not be tested; the message is then the reason.
    """
    try:
        user = pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
    except KeyError:
        return None, LazyText(N_("system user {user} not found"), {"user": name})
    if user.pw_uid == os.geteuid():
        return ask_sqlstate(conninfo, LOGIN_LIMIT_S)
    if os.geteuid() != 0:
        return None, LazyText(
            N_("only the system administrator (root) can test it as {user}"), {"user": name}
        )
    try:
        completed = subprocess.run(
            [
                sys.executable, "-I", "-c", _LOGIN_PROGRAM,
                str(user.pw_uid), str(user.pw_gid), conninfo,
            ],
            env={"PATH": os.defpath, "HOME": user.pw_dir, "USER": user.pw_name}, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * LOGIN_LIMIT_S,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        values = {"user": name, "kind": type(error).__name__}
        return None, LazyText(N_("test as {user} failed: {kind}"), values)
    code, message = json.loads(completed.stdout)
    return code, message
