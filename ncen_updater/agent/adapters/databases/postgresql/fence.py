"""Bar every session from the set, and let them in again exactly as before."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import psycopg

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import read_databases, require
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    identifier,
    remember_login,
    rows,
    run,
    translated,
)
from ncen_updater.agent.adapters.databases.postgresql.control import (
    Control,
    FenceRecord,
    expect,
    expected,
    forget,
    opened,
    read_fences,
    renew,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import forget_visits, mark_strangers
from ncen_updater.agent.model.errors import DatabaseError, FenceFailed
from ncen_updater.common.database_words import said
from ncen_updater.common.messages import (
    DATABASE_CLOSED,
    FENCED_BY_OTHER,
    PREPARED_TRANSACTIONS,
)

logger = logging.getLogger(__name__)

# Autovacuum has no role, gives way by itself, and only superusers may end it. Role and program are
# what the server shows to everybody; backend_type and state it hides from most.
_SESSIONS = (
    "SELECT pid, coalesce(nullif(application_name, ''), '-') || ' of ' || coalesce(usename, '-'),"
    " datname FROM pg_stat_activity"
    " WHERE datname = ANY(%s) AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"
)
WAIT_MS = 2_000
# Sessions that we may not end may be about to end by themselves.
HOPE_S = 2.0
POLL_S = 0.05


def end_sessions(connection: Connection, databases: Sequence[str], limit_s: float) -> None:
    """End every session of some databases and wait until they are gone.

    Raises:
        FenceFailed: If some stay; their names are in the detail.
    """
    begin = time.monotonic()
    reasons: dict[int, str] = {}
    while found := rows(connection, _SESSIONS, [list(databases)]):
        for pid, _name, _database in found:
            try:
                run(connection, "SELECT pg_terminate_backend(%s, %s)", [pid, WAIT_MS])
            except psycopg.errors.InsufficientPrivilege as error:
                reasons[pid] = said(error)
        left = rows(connection, _SESSIONS, [list(databases)])
        hopeless = all(pid in reasons for pid, _name, _database in left)
        if left and time.monotonic() - begin > (min(HOPE_S, limit_s) if hopeless else limit_s):
            detail = "; ".join(
                f"{name} (process {pid}) {reasons.get(pid, '')}".strip() for pid, name, _ in left
            )
            names = ", ".join(sorted({database for _pid, _name, database in left}))
            raise FenceFailed(count=len(left), database=names, detail=detail)
        if left:
            time.sleep(POLL_S)


def restore_statement(database: str, fence: FenceRecord) -> str:
    """Return the statement that opens a database again as it was."""
    allow = "true" if fence.allow else "false"
    return (
        f"ALTER DATABASE {identifier(database)}"
        f" WITH ALLOW_CONNECTIONS {allow} CONNECTION LIMIT {fence.limit}"
    )


def set_fences(
    connection: Connection, change: ChangeRef, fences: Mapping[str, FenceRecord]
) -> None:
    """Replace what is to be restored for some databases."""
    for database, fence in fences.items():
        run(
            connection,
            "INSERT INTO public.fences (database, change, allow_connections, connection_limit)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (database) DO UPDATE SET change ="
            " excluded.change, allow_connections = excluded.allow_connections,"
            " connection_limit = excluded.connection_limit",
            [database, change.id, fence.allow, fence.limit],
        )


class Fencing:
    """Fence and unfence of one set.

    Args:
        server: The server.
        control: Where the originals are written.
        databases: Physical names of the live set.
    """

    def __init__(self, server: Server, control: Control, databases: Sequence[str]) -> None:
        self._server = server
        self._control = control
        self._databases = tuple(sorted(databases))

    def fence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.fence`."""
        if self.stands(change):
            return
        self._control.ensure()
        with (
            translated(", ".join(self._databases)),
            self._control.transaction(lock_s=self._server.limits.lock_s) as connection,
        ):
            self._require_ours(connection, change)
            remember_login(connection, self._server)
            found = read_databases(connection)
            known = [name for name in read_fences(connection) if name in self._databases]
            # What another change closed, or left behind, says nothing of this one.
            said = expected(connection, self._databases).items()
            forget(connection, [name for name, (by, _) in said if by != change.id])
            for database in self._databases:
                row = require(found, database)
                if not row.allow and database not in known:  # not ours to open
                    raise DatabaseError(DATABASE_CLOSED, database=database)
                # What stands in the table is older than this act and is the true original.
                run(
                    connection,
                    "INSERT INTO public.fences"
                    " (database, change, allow_connections, connection_limit)"
                    " VALUES (%s, %s, %s, %s) ON CONFLICT (database) DO NOTHING",
                    [database, change.id, row.allow, row.limit],
                )
                run(connection, f"ALTER DATABASE {identifier(database)} ALLOW_CONNECTIONS false")
            renew(connection, known, opened(self._server, connection, known))
            expect(connection, change, [name for name in self._databases if name not in known])
        with self._server.facts() as connection:
            # Who is in one that this change had closed before came through its door since.
            mark_strangers(connection, known)
            self._clear(connection)

    def stands(self, change: ChangeRef) -> bool:
        """Whether the change's fence stands; then sessions that are left are ended.

        Raises:
            FencedByOther: See :meth:`DatabaseEngine.fence`.
            PreparedTransactions: If some are open.
        """
        with self._server.facts() as connection:
            self._require_ours(connection, change)
            if not self._stands(connection):
                return False
            mark_strangers(connection, self._databases)
            self._clear(connection)
            return True

    def _require_ours(self, connection: Connection, change: ChangeRef) -> None:
        """Refuse a fence of another change: its agent may be at work, and would let officers in."""
        fences = read_fences(connection)
        others = {fences[name].change for name in self._databases if name in fences}
        others -= {change.id}
        if others:
            raise DatabaseError(FENCED_BY_OTHER, change=change.id, other=", ".join(sorted(others)))

    def _stands(self, connection: Connection) -> bool:
        """Whether all are closed and it is written how to open them: the cut-over asks again."""
        found, fences = read_databases(connection), read_fences(connection)
        live = [found.get(database) for database in self._databases]
        closed = all(row is not None and row.valid and not row.allow for row in live)
        return closed and all(database in fences for database in self._databases)

    def _clear(self, connection: Connection) -> None:
        """End the sessions that are left; refuse prepared transactions, which outlive them."""
        end_sessions(connection, self._databases, self._server.limits.terminate_s)
        prepared = rows(
            connection,
            "SELECT gid, database FROM pg_prepared_xacts WHERE database = ANY(%s)",
            [list(self._databases)],
        )
        if prepared:
            raise FenceFailed(
                PREPARED_TRANSACTIONS,
                count=len(prepared),
                database=", ".join(sorted({database for _gid, database in prepared})),
                detail=", ".join(gid for gid, _database in prepared),
            )

    def sessions(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.sessions`."""
        with self._server.facts() as connection:
            found = rows(connection, _SESSIONS, [list(self._databases)])
        return tuple(sorted({f"{who} ({name})" for _, who, name in found}))

    def replaced(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.replaced`: another number has the name now."""
        with self._server.facts() as connection:
            found = read_databases(connection)
            known = expected(connection, self._databases).items()
        return tuple(
            name for name, (_, version) in sorted(known)
            if name in found and "/" in version and version.split("/")[0] != str(found[name].oid)
        )  # fmt: skip

    def unfence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.unfence`."""
        with self._server.facts() as connection:
            if not read_fences(connection):
                return
        with (
            translated(", ".join(self._databases)),
            self._control.transaction(lock_s=self._server.limits.lock_s) as connection,
        ):
            self._require_ours(connection, change)
            self.open(connection)
            forget(connection, self._databases)
            forget_visits(connection, self._databases)

    def open(self, connection: Connection) -> None:
        """Open what is fenced, whoever did it, in a transaction; all of it or nothing.

        One that is away would stay closed, and nobody would know of it any more.
        """
        found = read_databases(connection)
        for database, fence in sorted(read_fences(connection).items()):
            if database in self._databases:
                require(found, database)
                run(connection, restore_statement(database, fence))
                run(connection, "DELETE FROM public.fences WHERE database = %s", [database])
