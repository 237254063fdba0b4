"""Fence: close all live databases to foreign sessions, and open them again exactly as before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import psycopg

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    read_databases,
    require_database,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    execute_all,
    fetch_rows,
    quote_identifier,
    record_login,
    translate_errors,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    ControlDatabase,
    FenceState,
    find_opened_in_transaction,
    forget_versions,
    read_expected_versions,
    read_fences,
    record_versions,
    renew_versions,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import (
    flag_foreign_sessions,
    forget_maintenance_sessions,
)
from ncen_updater.agent.model.errors import DatabaseError, FenceError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.messages import (
    DATABASE_CLOSED,
    FENCED_BY_OTHER,
    PREPARED_TRANSACTIONS,
)

# Leaves out autovacuum, which has no role, yields by itself, and can be terminated by superusers
# only. Everybody may see role and application name; most roles may not see backend_type and state.
_SESSIONS = (
    "SELECT pid, coalesce(nullif(application_name, ''), '-') || ' of ' || coalesce(usename, '-'),"
    " datname FROM pg_stat_activity"
    " WHERE datname = ANY(%s) AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"
)
WAIT_MS = 2_000
# Sessions that the agent may not terminate may be about to end on their own.
UNTERMINABLE_WAIT_S = 2.0
POLL_S = 0.05


def terminate_sessions(connection: Connection, databases: Sequence[str], limit_s: float) -> None:
    """Terminate every session of some databases and wait until they are gone.

    Raises:
        FenceError: If sessions remain; the detail names them.
    """
    started = time.monotonic()
    reasons: dict[int, str] = {}
    while found := fetch_rows(connection, _SESSIONS, [list(databases)]):
        for pid, _name, _database in found:
            try:
                execute(connection, "SELECT pg_terminate_backend(%s, %s)", [pid, WAIT_MS])
            except psycopg.errors.InsufficientPrivilege as error:
                reasons[pid] = sanitize_error(error)
        remaining = fetch_rows(connection, _SESSIONS, [list(databases)])
        hopeless = all(pid in reasons for pid, _name, _database in remaining)
        if remaining and time.monotonic() - started > (
            min(UNTERMINABLE_WAIT_S, limit_s) if hopeless else limit_s
        ):
            detail = "; ".join(
                f"{name} (process {pid}) {reasons.get(pid, '')}".strip()
                for pid, name, _ in remaining
            )
            names = ", ".join(sorted({database for _pid, _name, database in remaining}))
            raise FenceError(count=len(remaining), database=names, detail=detail)
        if remaining:
            time.sleep(POLL_S)


def build_reopen_statement(database: str, fence: FenceState) -> str:
    """Return the statement that restores a database's connection settings."""
    allow = "true" if fence.allow_connections else "false"
    return (
        f"ALTER DATABASE {quote_identifier(database)}"
        f" WITH ALLOW_CONNECTIONS {allow} CONNECTION LIMIT {fence.connection_limit}"
    )


def write_fences(
    connection: Connection, change: ChangeRef, fences: Mapping[str, FenceState]
) -> None:
    """Store the connection settings that unfencing restores for some databases."""
    for database, fence in fences.items():
        execute(
            connection,
            "INSERT INTO public.fences (database, change, allow_connections, connection_limit)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (database) DO UPDATE SET change ="
            " excluded.change, allow_connections = excluded.allow_connections,"
            " connection_limit = excluded.connection_limit",
            [database, change.id, fence.allow_connections, fence.connection_limit],
        )


class DatabaseFence:
    """Fence of the live databases.

    Args:
        server: The server.
        control: The control database, which stores the original settings.
        databases: Physical names of the live databases.
    """

    def __init__(self, server: Server, control: ControlDatabase, databases: Sequence[str]) -> None:
        self._server = server
        self._control = control
        self._databases = tuple(sorted(databases))

    def fence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.fence`."""
        if self.is_in_force(change):
            return
        self._control.create_if_missing()
        with (
            translate_errors(", ".join(self._databases)),
            self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection,
        ):
            fences = self._require_same_change(connection, change)
            record_login(connection, self._server)
            found = read_databases(connection)
            known = [name for name in fences if name in self._databases]
            # Versions recorded by another change do not apply to this one.
            recorded = read_expected_versions(connection, self._databases).items()
            forget_versions(connection, [name for name, (by, _) in recorded if by != change.id])
            for database in self._databases:
                row = require_database(found, database)
                if not row.allow_connections and database not in known:  # closed by somebody else
                    raise DatabaseError(DATABASE_CLOSED, database=database)
            # An existing row is older than this transaction and holds the original settings.
            execute(
                connection,
                "INSERT INTO public.fences (database, change, allow_connections, connection_limit)"
                " SELECT datname, %s, datallowconn, datconnlimit FROM pg_database"
                " WHERE datname = ANY(%s) ON CONFLICT (database) DO NOTHING",
                [change.id, list(self._databases)],
            )
            execute_all(
                connection,
                (
                    f"ALTER DATABASE {quote_identifier(database)} ALLOW_CONNECTIONS false"
                    for database in self._databases
                ),
            )
            renew_versions(
                connection, known, find_opened_in_transaction(self._server, connection, known)
            )
            record_versions(
                connection, change, [name for name in self._databases if name not in known]
            )
        with self._server.open_control_session() as connection:
            # A foreign session may have entered a database of this change while it was open.
            flag_foreign_sessions(connection, known)
            self._terminate_remaining(connection)

    def is_in_force(self, change: ChangeRef) -> bool:
        """Tell whether the change's fence is in force; if so, terminate the remaining sessions.

        Raises:
            FENCED_BY_OTHER: See :meth:`DatabaseEngine.fence`.
            PREPARED_TRANSACTIONS: If prepared transactions are open.
        """
        with self._server.open_control_session() as connection:
            fences = self._require_same_change(connection, change)
            if not self._is_in_force(connection, fences):
                return False
            flag_foreign_sessions(connection, self._databases)
            self._terminate_remaining(connection)
            return True

    def _require_same_change(
        self, connection: Connection, change: ChangeRef
    ) -> Mapping[str, FenceState]:
        """Refuse a fence of another change, whose agent may be running and would open it.

        Returns:
            The recorded fences.
        """
        fences = read_fences(connection)
        others = {fences[name].change for name in self._databases if name in fences}
        others -= {change.id}
        if others:
            raise DatabaseError(FENCED_BY_OTHER, change=change.id, other=", ".join(sorted(others)))
        return fences

    def _is_in_force(self, connection: Connection, fences: Mapping[str, FenceState]) -> bool:
        """Tell whether all are closed and their settings recorded; the cut-over checks again."""
        found = read_databases(connection)
        live = [found.get(database) for database in self._databases]
        closed = all(row is not None and row.is_valid and not row.allow_connections for row in live)
        return closed and all(database in fences for database in self._databases)

    def _terminate_remaining(self, connection: Connection) -> None:
        """Terminate the remaining sessions; refuse prepared transactions, which outlive them."""
        terminate_sessions(connection, self._databases, self._server.timeouts.terminate_s)
        prepared = fetch_rows(
            connection,
            "SELECT gid, database FROM pg_prepared_xacts WHERE database = ANY(%s)",
            [list(self._databases)],
        )
        if prepared:
            raise FenceError(
                PREPARED_TRANSACTIONS,
                count=len(prepared),
                database=", ".join(sorted({database for _gid, database in prepared})),
                detail=", ".join(gid for gid, _database in prepared),
            )

    def describe_sessions(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.describe_sessions`."""
        with self._server.open_control_session() as connection:
            found = fetch_rows(connection, _SESSIONS, [list(self._databases)])
        return tuple(sorted({f"{session} ({database})" for _, session, database in found}))

    def list_replaced(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.list_replaced`; a replaced database has another object id."""
        with self._server.open_control_session() as connection:
            found = read_databases(connection)
            known = read_expected_versions(connection, self._databases).items()
        return tuple(
            name for name, (_, version) in sorted(known)
            if name in found and "/" in version and version.split("/")[0] != str(found[name].oid)
        )  # fmt: skip

    def unfence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.unfence`."""
        with self._server.open_control_session() as connection:
            if not read_fences(connection):
                return
        with (
            translate_errors(", ".join(self._databases)),
            self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection,
        ):
            self._require_same_change(connection, change)
            self.open(connection)
            forget_versions(connection, self._databases)
            forget_maintenance_sessions(connection, self._databases)

    def open(self, connection: Connection) -> None:
        """Open all fenced databases, of any change, in the caller's transaction.

        Raises:
            DatabaseUnreachableError: A database is missing: it would stay closed without a record.
        """
        found = read_databases(connection)
        for database, fence in sorted(read_fences(connection).items()):
            if database in self._databases:
                require_database(found, database)
                execute(connection, build_reopen_statement(database, fence))
                execute(connection, "DELETE FROM public.fences WHERE database = %s", [database])
