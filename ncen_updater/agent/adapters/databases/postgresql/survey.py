"""Facts of the server for :mod:`blockers`; nothing is judged here."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseRow,
    ServerDisk,
    previous_name,
    read_databases,
    read_disks,
    read_server_major,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    fetch_rows,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import find_opened
from ncen_updater.agent.adapters.databases.postgresql.copies import choose_copy_method


@dataclass(frozen=True)
class AgentRights:
    """Privileges of the agent's role.

    Attributes:
        superuser: Whether it is a superuser.
        createdb: Whether it may create databases.
        can_signal: Whether it may terminate sessions of other roles.
        owner_exists: Whether the application's role exists.
        missing_owner_roles: Owner roles that it cannot act as.
        settings_not_allowed: (database, role, setting) that it may not set.
        can_read_stats: Whether it sees the sessions of other roles.
    """

    superuser: bool
    createdb: bool
    can_signal: bool
    owner_exists: bool = True
    missing_owner_roles: tuple[str, ...] = ()
    settings_not_allowed: tuple[tuple[str, str, str], ...] = ()
    can_read_stats: bool = True


class SessionGroup(NamedTuple):
    """Sessions of one role and one program in one database.

    Attributes:
        database: Physical name of the database.
        role: Name of the role.
        program: The application name.
        number: Number of sessions.
        superuser: Whether the role is a superuser: then revoked grants do not keep it out.
        can_terminate: Whether the agent may terminate them.
    """

    database: str
    role: str
    program: str
    number: int
    superuser: bool = False
    can_terminate: bool = True


@dataclass(frozen=True)
class ServerSurvey:
    """Facts of the server. Databases by physical name unless stated otherwise.

    Attributes:
        major: Major version of the server.
        version: Full version.
        databases: All databases.
        rights: Privileges of the agent's role.
        disks: Visible file systems of the server.
        sizes: Bytes of existing sources, by logical name.
        methods: Copy method, by logical name.
        sessions: Foreign sessions in the live databases.
        prepared: (database, name of a prepared transaction).
        replication_slots: (database, slot).
        subscriptions: (database, subscription).
        collations: (database, recorded version, version of the library).
        previous_altered: Previous databases that the change would copy and that somebody opened.
        hides_disks: Whether a local server does not show its directories to the agent's role.
    """

    major: int
    version: str
    databases: Mapping[str, DatabaseRow]
    rights: AgentRights
    disks: Sequence[ServerDisk] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    sessions: Sequence[SessionGroup] = ()
    prepared: Sequence[tuple[str, str]] = ()
    replication_slots: Sequence[tuple[str, str]] = ()
    subscriptions: Sequence[tuple[str, str]] = ()
    collations: Sequence[tuple[str, str, str]] = ()
    previous_altered: Sequence[str] = ()
    hides_disks: bool = False


# Autovacuum has no role. Columns that the server hides are not queried; see fence.py.
_SESSIONS = (
    "SELECT a.datname, coalesce(a.usename, '-'), coalesce(nullif(a.application_name, ''), '-'),"
    " count(*)::int, coalesce(r.rolsuper, false), me.rolsuper OR NOT coalesce(r.rolsuper, false)"
    " AND (pg_has_role('pg_signal_backend', 'USAGE') OR pg_has_role(a.usesysid, 'USAGE'))"
    " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
    " JOIN pg_roles me ON me.rolname = current_user"
    " WHERE a.datname = ANY(%s) AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL"
    " GROUP BY 1, 2, 3, 5, 6 ORDER BY 1, 2, 3"
)
_SHOWS_DISKS = "SELECT pg_has_role('pg_read_all_settings', 'USAGE')"
# A session that the agent may not terminate may be about to end: wait that long for it.
UNTERMINABLE_WAIT_S, POLL_S = 1.0, 0.05
_UNSET_ROLES = (
    "SELECT d.datname, r.rolname, split_part(c, '=', 1) FROM pg_db_role_setting s"
    " JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole,"
    " unnest(s.setconfig) c"
    " WHERE d.datname = ANY(%s) AND r.rolname <> current_user AND NOT ("
    " (SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user) AND NOT r.rolsuper"
    " AND ({admin}))"
)
_UNSET_PARAMETERS = (
    "SELECT d.datname, '', split_part(c, '=', 1) FROM pg_db_role_setting s"
    " JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c"
    " LEFT JOIN pg_settings p ON p.name = split_part(c, '=', 1)"
    # A setting unknown to the server (an application's own) needs a superuser, too.
    " WHERE d.datname = ANY(%s) AND coalesce(p.context = 'superuser', true) AND NOT {granted}"
)


def survey_server(
    server: Server,
    change: ChangeRef,
    names: Mapping[str, str],
    *,
    clone: Collection[str] = (),
) -> ServerSurvey:
    """Read all facts that may block a change.

    Args:
        server: The server.
        change: The change.
        names: Logical to physical names.
        clone: Logical names whose copies can share blocks with their originals.
    """
    live = list(names.values())
    with server.open_control_session() as connection:
        major = read_server_major(connection)
        databases = read_databases(connection)
        source_change = change.retained_from
        sources = {
            n: previous_name(p, source_change) if source_change else p for n, p in names.items()
        }
        oids = {
            name: databases[source].oid
            for name, source in sources.items()
            if source in databases and databases[source].is_valid
        }
        sizes = _read_sizes(connection, oids)
        copy_method = server.settings.copy_method
        return ServerSurvey(
            major=major,
            version=connection.info.parameter_status("server_version") or str(major),
            databases=databases,
            rights=_read_rights(connection, server.settings.owner, databases, live),
            disks=read_disks(server, connection, {n: databases[sources[n]].oid for n in sizes}),
            sizes=sizes,
            methods={
                n: choose_copy_method(major, size, copy_method, clone=n in clone)
                for n, size in sizes.items()
            },
            sessions=_read_sessions(connection, live),
            previous_altered=find_opened(connection, sources.values())
            if change.retained_from
            else (),
            hides_disks=server.settings.host.startswith("/")
            and not fetch_rows(connection, _SHOWS_DISKS)[0][0],
            prepared=_fetch_for_databases(
                connection,
                "SELECT database, gid FROM pg_prepared_xacts WHERE database = ANY(%s) ORDER BY 2",
                live,
            ),
            replication_slots=_fetch_for_databases(
                connection,
                "SELECT database, slot_name FROM pg_replication_slots"
                " WHERE database = ANY(%s) ORDER BY 2",
                live,
            ),
            subscriptions=_fetch_for_databases(
                connection,
                "SELECT d.datname, s.subname FROM pg_subscription s"
                " JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = ANY(%s) ORDER BY 2",
                live,
            ),
            collations=_read_collation_mismatches(connection, major, live),
        )


def _read_sessions(connection: Connection, live: list[str]) -> list[SessionGroup]:
    deadline = time.monotonic() + UNTERMINABLE_WAIT_S
    while True:
        found = [SessionGroup(*row) for row in _fetch_for_databases(connection, _SESSIONS, live)]
        if all(group.can_terminate for group in found) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def _read_sizes(connection: Connection, oids: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of databases, without those whose size the agent may not read."""
    found = fetch_rows(
        connection,
        "SELECT name, pg_database_size(oid) FROM unnest(%s::text[], %s::oid[]) AS source(name, oid)"
        " WHERE has_database_privilege(oid, 'CONNECT')"
        " OR pg_has_role('pg_read_all_stats', 'USAGE')",
        [list(oids), list(oids.values())],
    )
    return {name: int(size) for name, size in found}


def _fetch_for_databases(
    connection: Connection, sql: str, live: list[str]
) -> list[tuple[Any, ...]]:
    return fetch_rows(connection, sql, [live])


def _read_collation_mismatches(
    connection: Connection, major: int, live: list[str]
) -> list[tuple[str, str, str]]:
    if major < 15:  # databases have no recorded version before 15
        return []
    return _fetch_for_databases(
        connection,
        "SELECT datname, datcollversion, pg_database_collation_actual_version(oid)"
        " FROM pg_database WHERE datname = ANY(%s) AND datcollversion IS NOT NULL"
        " AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)",
        live,
    )


def _read_rights(
    connection: Connection,
    owner: str,
    databases: Mapping[str, DatabaseRow],
    live: list[str],
) -> AgentRights:
    superuser, createdb, signal, stats = fetch_rows(
        connection,
        "SELECT rolsuper, rolcreatedb, pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),"
        " pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
        " FROM pg_roles WHERE rolname = current_user",
    )[0]
    exists = bool(fetch_rows(connection, "SELECT FROM pg_roles WHERE rolname = %s", [owner]))
    if superuser:
        return AgentRights(True, True, True, exists)
    major = read_server_major(connection)
    owners = {databases[name].owner for name in live if name in databases}
    owners |= {owner} if exists else set()
    # Since 16, using a role's privileges and switching to it are separate privileges.
    become = "pg_has_role(current_user, %s, 'SET')" if major >= 16 else "true"
    missing = []
    for name in sorted(owners):
        query = f"SELECT pg_has_role(current_user, %s, 'USAGE') AND {become}"
        arguments = [name, name] if major >= 16 else [name]
        if not fetch_rows(connection, query, arguments)[0][0]:
            missing.append(name)
    admin = "pg_has_role(current_user, r.oid, 'USAGE WITH ADMIN OPTION')"
    roles = _UNSET_ROLES.format(admin=admin if major >= 16 else "true")
    granted = "has_parameter_privilege(split_part(c, '=', 1), 'SET')" if major >= 15 else "false"
    unset = _fetch_for_databases(connection, roles, live)
    unset += _fetch_for_databases(connection, _UNSET_PARAMETERS.format(granted=granted), live)
    return AgentRights(
        superuser, createdb, signal, exists, tuple(missing), tuple(sorted(unset)), stats
    )
