"""Control database: records of operations on the databases, in the same transactions.

A session cannot rename the database to which it is connected, so the cut-over needs another
database; its rows and the renames are committed together. The first operation creates it; a query
never does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import psycopg

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseMarker
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    find_data_directory,
    read_databases,
    read_server_major,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    execute_all,
    fetch_rows,
    has_tables,
    quote_identifier,
)
from ncen_updater.common.error_sanitizer import sanitize_error

logger = logging.getLogger(__name__)


#: Columns by table. All are created at once, so that no operation has to create one.
_TABLES = {
    "cut_overs": "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, change text NOT NULL,"
    " direction text NOT NULL, generation bigint NOT NULL, release text NOT NULL,"
    " fences jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now()",
    # Settings to restore when a database is opened again.
    "fences": "database text PRIMARY KEY, change text NOT NULL, allow_connections boolean NOT NULL,"
    " connection_limit integer NOT NULL, at timestamptz NOT NULL DEFAULT now()",
    # Transaction id of each cut-over, to find rows written after it.
    "moments": "change text PRIMARY KEY, transaction xid8 NOT NULL",
    # Roles of the application as which the agent can log in.
    "logins": "role text PRIMARY KEY",
    # Expected versions of closed databases in the catalogue.
    "versions": "database text PRIMARY KEY, change text NOT NULL, version text NOT NULL",
    # Maintenance sessions in closed databases, see sessions.py; and revoked connect grants, see
    # connect_grants.py.
    "visits": "process integer, started timestamptz, database text NOT NULL,"
    " PRIMARY KEY (process, started)",
    "revoked": "database text PRIMARY KEY, change text NOT NULL, grants jsonb NOT NULL",
    # Counts of rows in quarantined databases.
    "set_aside": "change text PRIMARY KEY, counts jsonb NOT NULL,"
    " at timestamptz NOT NULL DEFAULT now()",
}

# The server rolls back the operation of a dead agent in seconds: a rename waits at most 5 s for
# other sessions.
SETTLE_TIMEOUT_MS = 60_000


MAX_OID_ATTEMPTS = 5  # attempts for the control database before the server chooses an id
# Above the ids that servers assign for years, so that a retry finds its id unused.
FIRST_OID = 3_000_000_000
LAST_OID = 4_200_000_000
# Advisory lock for creating the control database: "ncen-upd" as a number.
CREATION_LOCK_ID = 0x6E63656E2D757064


class CutOverEvent(StrEnum):
    """Event of a row in the control database."""

    CUT_OVER = "over"
    REVERTED = "back"
    COMMITTED = "committed"  # users may work; nothing is reverted any more


@dataclass(frozen=True)
class FenceState:
    """Settings to restore when a database is opened again, and the change that closed it."""

    allow_connections: bool
    connection_limit: int
    change: str = ""


@dataclass(frozen=True)
class CutOverRecord:
    """Last row of a change."""

    event: CutOverEvent
    fences: Mapping[str, FenceState]


class ControlDatabase:
    """Control database of a server.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = server.settings.control_database

    def create_if_missing(self) -> None:
        """Create the database and its tables if they are missing."""
        with self._server.open_control_session() as connection:
            if connection.info.dbname == self._name and has_tables(connection, *_TABLES):
                return
        # Check again under the lock: another agent may have created it meanwhile.
        with self._hold_creation_lock() as connection:
            if not _exists(connection, self._name):
                self._create(connection)
            with self._server.open_session_block(self._name, purpose="control") as control:
                for name, columns in _TABLES.items():
                    execute(control, f"CREATE TABLE IF NOT EXISTS public.{name} ({columns})")

    @contextlib.contextmanager
    def _hold_creation_lock(self) -> Iterator[Connection]:
        """Hold the advisory lock of the creation; it ends with the session.

        A server that is still working for a killed agent keeps the lock.
        """
        with self._server.open_control_session(
            control=False, lock_s=SETTLE_TIMEOUT_MS / 1000
        ) as connection:
            execute(connection, "SELECT pg_advisory_lock(%s)", [CREATION_LOCK_ID])
            yield connection

    @contextlib.contextmanager
    def transaction(self, *, lock_s: float | None = None) -> Iterator[Connection]:
        """Open a transaction that is durable once the block ends without an error."""
        # One writer at a time; open_settled_session waits for this lock.
        first = "SET LOCAL synchronous_commit = on; LOCK TABLE public.cut_overs IN EXCLUSIVE MODE"
        limit = "" if lock_s is None else f"; SET LOCAL lock_timeout = {int(lock_s * 1000)}"
        with self._server.open_write_session() as connection, connection.transaction():
            execute(connection, first + limit)
            yield connection

    def write_event(
        self,
        connection: Connection,
        change: ChangeRef,
        event: CutOverEvent,
        opened: Mapping[str, FenceState] | None = None,
    ) -> None:
        """Insert a row, with the fences in force.

        Args:
            connection: In a transaction of :meth:`transaction`.
            change: The change.
            event: The event.
            opened: Databases that the row must also name although they are no longer fenced.
        """
        fences = {
            database: [fence.allow_connections, fence.connection_limit]
            for database, fence in {**(opened or {}), **read_fences(connection)}.items()
        }
        execute(
            connection,
            "INSERT INTO public.cut_overs (change, direction, generation, release, fences)"
            " VALUES (%s, %s, %s, %s, %s)",
            [change.id, event.value, change.generation, change.release, json.dumps(fences)],
        )
        if event is CutOverEvent.CUT_OVER:
            execute(
                connection,
                "INSERT INTO public.moments VALUES (%s, pg_current_xact_id())"
                " ON CONFLICT (change) DO UPDATE SET transaction = excluded.transaction",
                [change.id],
            )

    def _create(self, connection: Connection) -> None:
        name = quote_identifier(self._name)
        # template0 has no sessions that could block this.
        statement = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
        # Another agent may have been faster.
        with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            if read_server_major(connection) < 15:
                execute(connection, statement)
            else:
                self._create_numbered(connection, statement)
        execute(connection, f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")

    def _create_numbered(self, connection: Connection, statement: str) -> None:
        """Create it with a predictable object id, and remove the remains of a killed server.

        If the agent cannot see such a directory (some megabytes), it stays, and the next id is
        used.
        """
        taken = {row.oid for row in read_databases(connection).values()}
        directory = find_data_directory(self._server, connection)
        for _ in range(MAX_OID_ATTEMPTS):
            oid = choose_oid("control", self._name, taken)
            if directory is not None and not is_being_created(connection, oid):
                directory.remove_orphan(oid)
            try:
                execute(connection, f"{statement} OID {oid}")
            except psycopg.errors.InvalidParameterValue as error:
                logger.warning("base/%d already exists: %s", oid, sanitize_error(error))
                taken.add(oid)
            else:
                return
        execute(connection, statement)


def choose_oid(change_id: str, name: str, taken: Collection[int]) -> int:
    """Return a free object id that follows from change and name, so that it is predictable."""
    digest = hashlib.sha256(f"{change_id}/{name}".encode()).digest()
    oid = FIRST_OID + int.from_bytes(digest[:8], "big") % (LAST_OID - FIRST_OID)
    while oid in taken:
        oid += 1
    return oid


def is_being_created(connection: Connection, oid: int) -> bool:
    """Tell whether the server is creating a database with an object id, maybe for a dead agent."""
    found = fetch_rows(
        connection,
        "SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active'"
        " AND query LIKE 'CREATE DATABASE %%' AND query LIKE %s",
        [f"% OID {oid}%"],
    )
    return bool(found)


def _exists(connection: Connection, name: str) -> bool:
    return bool(fetch_rows(connection, "SELECT FROM pg_database WHERE datname = %s", [name]))


def _has_tables(connection: Connection) -> bool:
    return has_tables(connection, "cut_overs", "fences")


@contextlib.contextmanager
def open_settled_session(server: Server) -> Iterator[Connection]:
    """Open a read session with one snapshot, after any running transaction of an operation.

    The server may still be working for a killed agent, and its commit must not be missed.
    """
    with server.open_control_session() as connection, connection.transaction():
        if _has_tables(connection):
            limit = f"SET LOCAL lock_timeout = {SETTLE_TIMEOUT_MS}"
            execute(connection, f"{limit}; LOCK TABLE public.cut_overs IN SHARE MODE")
        yield connection


def read_last_event(
    connection: Connection, change_id: str, events: Sequence[CutOverEvent] = tuple(CutOverEvent)
) -> CutOverRecord | None:
    """Return the last row of a change; None if there is none, or no control database yet.

    Args:
        connection: A session of :meth:`Server.open_control_session` or of
            :meth:`ControlDatabase.transaction`.
        change_id: The change.
        events: Consider only these events.
    """
    if not _has_tables(connection):
        return None
    found = fetch_rows(
        connection,
        "SELECT direction, fences FROM public.cut_overs WHERE change = %s"
        " AND direction = ANY(%s) ORDER BY seq DESC LIMIT 1",
        [change_id, [event.value for event in events]],
    )
    if not found:
        return None
    direction, fences = found[0]
    return CutOverRecord(
        CutOverEvent(direction),
        {name: FenceState(bool(pair[0]), int(pair[1])) for name, pair in fences.items()},
    )


def read_cut_over_transaction(connection: Connection, change_id: str) -> int | None:
    """Return the transaction id of a change's last cut-over; None if unknown."""
    if not has_tables(connection, "moments"):
        return None
    found = fetch_rows(
        connection,
        "SELECT transaction::text::bigint FROM public.moments WHERE change = %s",
        [change_id],
    )
    return int(found[0][0]) if found else None


def read_recorded_marker(
    connection: Connection, databases: Collection[str]
) -> DatabaseMarker | None:
    """Return the marker of the last cut-over that was not reverted; None if unknown.

    Other sites may use the same control database: only a row that names all of these databases
    counts.

    Args:
        connection: As for :func:`read_last_event`.
        databases: Physical names of the databases.
    """
    if not _has_tables(connection):
        return None
    found = fetch_rows(
        connection,
        "SELECT o.release, o.generation, o.change FROM public.cut_overs o"
        " WHERE o.direction = %s AND o.fences ?& %s AND NOT EXISTS ("
        " SELECT FROM public.cut_overs b WHERE b.change = o.change AND b.direction = %s"
        " AND b.seq > o.seq) ORDER BY o.seq DESC LIMIT 1",
        [CutOverEvent.CUT_OVER.value, sorted(databases), CutOverEvent.REVERTED.value],
    )
    return DatabaseMarker(found[0][0], int(found[0][1]), found[0][2]) if found else None


def read_last_event_time(connection: Connection, events: Sequence[CutOverEvent]) -> datetime | None:
    """Return the time of the last of some events, of any change; None if there is none.

    Args:
        connection: As for :func:`read_last_event`.
        events: The events.
    """
    if not _has_tables(connection):
        return None
    found = fetch_rows(
        connection,
        "SELECT max(at) FROM public.cut_overs WHERE direction = ANY(%s)",
        [[event.value for event in events]],
    )
    last: datetime | None = found[0][0]
    return last


def is_commit_recorded(connection: Connection, change_id: str) -> bool:
    """Tell whether the last event of a change that was cut over is its commit."""
    record = read_last_event(connection, change_id)
    return record is not None and record.event is CutOverEvent.COMMITTED


def read_fences(connection: Connection) -> dict[str, FenceState]:
    """Return the settings to restore, by physical name; empty if nothing is fenced."""
    if not _has_tables(connection):
        return {}
    found = fetch_rows(
        connection,
        "SELECT database, allow_connections, connection_limit, change FROM public.fences",
    )
    return {name: FenceState(allow, limit, change) for name, allow, limit, change in found}


# ---- versions of closed databases ----------------------------------------------------------------

# The version of a database's row in pg_database shows whether somebody opened it while it was
# closed. Opening a database, renaming it or granting a privilege on it rewrites its row, and so
# changes the row's xmin, even if everything is restored afterwards. So the version is recorded in
# the transaction that closes the database, every change of the row by the agent renews it, and the
# cut-over compares it. Neither a VACUUM nor the server's own updates (which are in place) change
# it. A GRANT or a new limit does, and cannot be told from an opening: then the change is reverted.

# Recorded for a database that somebody opened; later changes of its row do not replace it.
OPENED_VERSION = "opened"


def read_expected_versions(
    connection: Connection, databases: Iterable[str]
) -> dict[str, tuple[str, str]]:
    """Return the recorded change and version, by physical name."""
    names = list(databases)
    if not names or not has_tables(connection, "versions"):
        return {}
    found = fetch_rows(
        connection,
        "SELECT database, change, version FROM public.versions WHERE database = ANY(%s)",
        [names],
    )
    return {database: (change, version) for database, change, version in found}


def record_versions(connection: Connection, change: ChangeRef, databases: Iterable[str]) -> None:
    """Record the versions of the rows as this transaction sees them."""
    execute(
        connection,
        "INSERT INTO public.versions SELECT datname, %s, oid::text || '/' || xmin::text"
        " FROM pg_database WHERE datname = ANY(%s) ON CONFLICT (database)"
        " DO UPDATE SET change = excluded.change, version = excluded.version",
        [change.id, list(databases)],
    )


def forget_versions(connection: Connection, databases: Iterable[str]) -> None:
    """Delete the recorded versions of these databases."""
    names = list(databases)
    if names and has_tables(connection, "versions"):
        execute(connection, "DELETE FROM public.versions WHERE database = ANY(%s)", [names])


def find_opened_in_transaction(
    server: Server, connection: Connection, databases: Iterable[str]
) -> tuple[str, ...]:
    """Return the databases whose row somebody else has written since its version was recorded.

    Call it after this transaction altered the rows and before :func:`renew_versions`: nobody else
    can alter a row that is being altered, so another session sees exactly the replaced version.

    Args:
        server: The server, for the other session.
        connection: In the transaction of the control database.
        databases: Physical names.
    """
    return _find_opened_outside(server, read_expected_versions(connection, databases))


def _find_opened_outside(server: Server, known: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    if not known:
        return ()
    with server.open_control_session() as outside:
        return _find_changed(known, _read_versions(outside, known))


def find_opened(connection: Connection, databases: Iterable[str]) -> tuple[str, ...]:
    """Return the databases whose row somebody else has written; outside of an operation."""
    known = read_expected_versions(connection, databases)
    return _find_changed(known, _read_versions(connection, known))


def renew_versions(connection: Connection, databases: Iterable[str], opened: Iterable[str]) -> None:
    """Record the versions that this transaction leaves, except for databases that were opened."""
    names = list(databases)
    if not names:
        return
    execute(
        connection,
        "UPDATE public.versions v SET version = CASE WHEN d.datname = ANY(%s) THEN %s"
        " ELSE d.oid::text || '/' || d.xmin::text END"
        " FROM pg_database d WHERE d.datname = v.database AND d.datname = ANY(%s)",
        [list(opened), OPENED_VERSION, names],
    )


def alter_and_renew(
    server: Server, connection: Connection, databases: Iterable[str], statements: Iterable[str]
) -> None:
    """Alter databases and renew their versions in one transaction."""
    with connection.transaction():
        execute_all(connection, statements)
        known = read_expected_versions(connection, databases)
        if known:
            renew_versions(connection, known, _find_opened_outside(server, known))


def mark_opened(connection: Connection, databases: Iterable[str]) -> None:
    """Record that somebody opened these databases."""
    known = read_expected_versions(connection, databases)
    if known:
        execute(
            connection,
            "UPDATE public.versions SET version = %s WHERE database = ANY(%s)",
            [OPENED_VERSION, list(known)],
        )


def _find_changed(
    known: Mapping[str, tuple[str, str]], present: Mapping[str, str]
) -> tuple[str, ...]:
    return tuple(
        sorted(name for name, (_, version) in known.items() if present.get(name) != version)
    )


def _read_versions(connection: Connection, databases: Iterable[str]) -> Mapping[str, str]:
    found = fetch_rows(
        connection,
        "SELECT datname, oid::text || '/' || xmin::text FROM pg_database WHERE datname = ANY(%s)",
        [list(databases)],
    )
    return dict(found)
