"""What would let the application's role become more than it is: one table of findings, pure rules.

Whoever has the application's role (its password, or a hole in the application) may leave functions
in its databases. They run in sessions of ours: so these are the application's role's own, the agent
is no superuser, and the control database, which says what happened, is shut to that role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncen_updater.agent.databases.postgresql.blockers import BlockerKind
from ncen_updater.agent.databases.postgresql.connection import Server, rows
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_

#: Sessions as the application's role that one database may need at a time: one that asks, one that
#: migrates; and a restore with two processes.
A_DATABASE, RESTORING = 2, 3

SUPERUSER = BlockerKind(
    "NU-4163",
    Severity.STRICT,
    N_("The agent's role {role} is a superuser: whoever gets into its sessions has the server."),
    N_("Let it be an ordinary role, as installation.md says under 'A role that is no superuser', or"
       " run as another superuser: ALTER ROLE {role} NOSUPERUSER CREATEDB; GRANT {owner},"
       " pg_signal_backend, pg_read_all_settings, pg_read_all_stats TO {role};"),
)  # fmt: skip
NO_LOGIN = BlockerKind(
    "NU-4164",
    Severity.ADVISORY,
    N_("The agent cannot log in as the application's role {owner}: nothing is rehearsed, and what a"
       " release does to the databases runs with the rights of {role}, which are more than it"
       " needs. A later version will not upgrade like that."),
    N_("Whoever looks after PostgreSQL adds three lines, which installation.md explains in section"
       " 3. To pg_ident.conf: 'ncen root {owner}' and 'ncen {owner} {owner}'. To pg_hba.conf, above"
       " the other 'local' lines: 'local all {owner} peer map=ncen'. Then: systemctl reload"
       " postgresql. If {owner} has a password, it goes into the password file instead."),
)  # fmt: skip
CONTROL_OPEN = BlockerKind(
    "NU-4165",
    Severity.STRICT,
    N_("The agent's control database {control} is open to the application: {reaching} can connect"
       " to it, or act as {role}."),
    N_("Run as a superuser: REVOKE CONNECT ON DATABASE {control} FROM PUBLIC, {reaching};"
       " REVOKE {role} FROM {reaching}; and let 'user' in agent.toml be a role of the agent's"
       " alone."),
)  # fmt: skip
FEW_SESSIONS = BlockerKind(
    "NU-4166",
    Severity.STRICT,
    N_(
        "The limit of sessions of the role {owner} is {limit}, and the agent needs {needed} while"
        " it migrates."
    ),
    N_("Run as a superuser: ALTER ROLE {owner} CONNECTION LIMIT -1;"),
)


@dataclass(frozen=True)
class RolesSeen:
    """What was seen of the roles.

    Attributes:
        superuser: Whether the agent's role is one.
        above: Whether the application's role is one: nothing is shut to it.
        limit: How many sessions the application's role may have; -1 where none is set.
        login: Whether the agent can log in as it.
        reaching: Roles of the application that get into the control database or become the agent's.
    """

    superuser: bool = False
    above: bool = False
    limit: int = -1
    login: bool = True
    reaching: Sequence[str] = ()


def see_roles(server: Server, databases: Sequence[str]) -> RolesSeen | None:
    """Look; None where there is no such role, which others tell.

    Args:
        server: The server.
        databases: Physical names of the live databases.

    Raises:
        DatabaseUnreachable: If the agent could log in as the application's role, and cannot now.
    """
    settings = server.settings
    with server.facts() as connection:
        found = rows(
            connection,
            "SELECT me.rolsuper, o.rolsuper, o.rolconnlimit FROM pg_roles me, pg_roles o"
            " WHERE me.rolname = current_user AND o.rolname = %s",
            [settings.owner],
        )
        if not found:
            return None
        reaching = rows(
            connection,
            "SELECT r.rolname FROM pg_roles r WHERE r.rolname = ANY(%s) AND ("
            " pg_has_role(r.oid, current_user::regrole::oid, 'MEMBER') OR EXISTS ("
            " SELECT FROM pg_database d WHERE d.datname = %s"
            " AND has_database_privilege(r.oid, d.oid, 'CONNECT'))) ORDER BY 1",
            [[settings.owner, *settings.application_roles], settings.control_database],
        )
    superuser, above, limit = found[0]
    login = server.try_owner(databases[0])
    return RolesSeen(superuser, above, limit, login, [name for (name,) in reaching])


def judge_roles(
    seen: RolesSeen,
    *,
    databases: int,
    role: str,
    owner: str,
    control: str,
    rehearsing: bool = False,
) -> tuple[Finding, ...]:
    """Return the findings; pure.

    Args:
        seen: What was seen.
        databases: How many there are.
        role: The agent's role.
        owner: The application's.
        control: Name of the control database.
        rehearsing: Whether it is asked before a rehearsal, which runs what was left in a backup.
    """
    found: list[Finding] = []
    if seen.superuser:
        found.append(SUPERUSER.found(role=role, owner=owner))
    if not seen.login:
        severity = Severity.STRICT if rehearsing else Severity.ADVISORY
        found.append(NO_LOGIN.found(severity, role=role, owner=owner))
    if seen.reaching:
        # To a superuser nothing is shut: that is told, and changes with the application's role.
        severity = Severity.ADVISORY if seen.above else Severity.STRICT
        reaching = ", ".join(seen.reaching)
        found.append(CONTROL_OPEN.found(severity, control=control, role=role, reaching=reaching))
    needed = max(databases * A_DATABASE, RESTORING)
    if seen.login and 0 <= seen.limit < needed:
        found.append(FEW_SESSIONS.found(owner=owner, limit=seen.limit, needed=needed))
    return tuple(found)
