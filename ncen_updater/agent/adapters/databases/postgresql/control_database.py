"""The control database: records of operations on the set, in the transactions that did them.

A session cannot rename the database that it is connected to, so the cut-over needs a database
outside the set; its rows and the renames commit together. The first operation creates it, a query
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


#: Columns by table. All are made at once, so that no act has to make one.
_TABLES = {
    "cut_overs": "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, change text NOT NULL,"
    " direction text NOT NULL, generation bigint NOT NULL, release text NOT NULL,"
    " fences jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now()",
    # What to restore when a database is opened again.
    "fences": "database text PRIMARY KEY, change text NOT NULL, allow_connections boolean NOT NULL,"
    " connection_limit integer NOT NULL, at timestamptz NOT NULL DEFAULT now()",
    # By the number of its cut-over's transaction, rows that are younger than a change are known.
    "moments": "change text PRIMARY KEY, transaction xid8 NOT NULL",
    # Roles of the application as which the agent logs in.
    "logins": "role text PRIMARY KEY",
    # Of closed databases, what their entries in the catalogue are expected to be.
    "versions": "database text PRIMARY KEY, change text NOT NULL, version text NOT NULL",
    # Our own sessions in closed databases, and what was granted on live ones: see sessions.py.
    "visits": "process integer, started timestamptz, database text NOT NULL,"
    " PRIMARY KEY (process, started)",
    "revoked": "database text PRIMARY KEY, change text NOT NULL, grants jsonb NOT NULL",
    # Counts of rows in databases that were set aside.
    "set_aside": "change text PRIMARY KEY, counts jsonb NOT NULL,"
    " at timestamptz NOT NULL DEFAULT now()",
}

# A rename waits 5 s for sessions before it gives up, and then the dead agent's session ends.
SETTLE_TIMEOUT_MS = 60_000


MAX_OID_ATTEMPTS = 5  # tried for the control database before the server chooses one
# Above what servers hand out in years, so that a retry does not meet a number in use.
FIRST_OID = 3_000_000_000
LAST_OID = 4_200_000_000
# One agent at a time makes the control database: "ncen-upd" as a number.
CREATION_LOCK_ID = 0x6E63656E2D757064


class CutOverEvent(StrEnum):
    """What a row of the control database says."""

    CUT_OVER = "over"
    REVERTED = "back"
    COMMITTED = "committed"  # users may be in; nothing is cut back any more


@dataclass(frozen=True)
class FenceState:
    """What to restore when a database is opened again, and the change that closed it."""

    allow_connections: bool
    connection_limit: int
    change: str = ""


@dataclass(frozen=True)
class CutOverRecord:
    """The last row of a change."""

    event: CutOverEvent
    fences: Mapping[str, FenceState]


class ControlDatabase:
    """Opens the control database for acts.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = server.settings.control_database

    def create_if_missing(self) -> None:
        """Make the database and its tables where they are missing."""
        with self._server.open_control_session() as connection:
            if connection.info.dbname == self._name and has_tables(connection, *_TABLES):
                return
        # Asked again: another agent may have made it meanwhile, and what it made is no orphan.
        with self._hold_creation_lock() as connection:
            if not _exists(connection, self._name):
                self._create(connection)
            with self._server.open_session_block(self._name, purpose="control") as control:
                for name, columns in _TABLES.items():
                    execute(control, f"CREATE TABLE IF NOT EXISTS public.{name} ({columns})")

    @contextlib.contextmanager
    def _hold_creation_lock(self) -> Iterator[Connection]:
        """Hold what only one agent on this server may hold; it ends with the session.

        The lock is kept by a server that still works for an agent that was killed.
        """
        with self._server.open_control_session(control=False) as connection:
            execute(connection, f"SET lock_timeout = {SETTLE_TIMEOUT_MS}")
            execute(connection, "SELECT pg_advisory_lock(%s)", [CREATION_LOCK_ID])
            yield connection

    @contextlib.contextmanager
    def transaction(self, *, lock_s: float | None = None) -> Iterator[Connection]:
        """Open a transaction that is on the disk when the block ends well."""
        # One writer at a time; anyone who wants to know the truth waits for it (see settled).
        first = "SET LOCAL synchronous_commit = on; LOCK TABLE public.cut_overs IN EXCLUSIVE MODE"
        limit = "" if lock_s is None else f"; SET LOCAL lock_timeout = {int(lock_s * 1000)}"
        with self._server.open_act_session() as connection, connection.transaction():
            execute(connection, first + limit)
            yield connection

    def write_event(
        self,
        connection: Connection,
        change: ChangeRef,
        event: CutOverEvent,
        opened: Mapping[str, FenceState] | None = None,
    ) -> None:
        """Add a row; the fences that stand now go into it.

        Args:
            connection: In a transaction of :meth:`transaction`.
            change: What was done.
            event: The row's word.
            opened: Databases that it is said of and that no fence names any more.
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
        # template0 has no sessions that could stand in the way.
        statement = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
        # Another agent may have been faster.
        with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            if read_server_major(connection) < 15:
                execute(connection, statement)
            else:
                self._create_numbered(connection, statement)
        execute(connection, f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")

    def _create_numbered(self, connection: Connection, statement: str) -> None:
        """Make it under a number that can be foretold, and remove what a killed server left of it.

        Out of the agent's sight such a directory stays, of some megabytes, and the next number is
        taken.
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
                logger.warning("base/%d is in the way: %s", oid, sanitize_error(error))
                taken.add(oid)
            else:
                return
        execute(connection, statement)


def choose_oid(change_id: str, name: str, taken: Collection[int]) -> int:
    """Return a free object id that depends on the change alone, so that it can be foretold."""
    digest = hashlib.sha256(f"{change_id}/{name}".encode()).digest()
    oid = FIRST_OID + int.from_bytes(digest[:8], "big") % (LAST_OID - FIRST_OID)
    while oid in taken:
        oid += 1
    return oid


def is_being_created(connection: Connection, oid: int) -> bool:
    """Tell whether the server is making a database under a number, maybe for a dead agent."""
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
    """Open a session for reading, in one snapshot, once no transaction of an act is under way.

    The server may still be working for an agent that was killed: what it is about to commit must
    not be overlooked.
    """
    with server.open_control_session() as connection, connection.transaction():
        if _has_tables(connection):
            limit = f"SET LOCAL lock_timeout = {SETTLE_TIMEOUT_MS}"
            execute(connection, f"{limit}; LOCK TABLE public.cut_overs IN SHARE MODE")
        yield connection


def read_last_event(
    connection: Connection, change_id: str, events: Sequence[CutOverEvent] = tuple(CutOverEvent)
) -> CutOverRecord | None:
    """Return the last row of a change; None where there is none, or no control database yet.

    Args:
        connection: A session of :meth:`Server.open_control_session` or of
            :meth:`ControlDatabase.transaction`.
        change_id: The change.
        events: Look at these only.
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
    """Return the number of the transaction of a change's last cut-over; None if it is not known."""
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
    """Return what the last cut-over of a set that was not undone made of it; None if not known.

    Other sets may have rows in the same control database: a row counts that names all of these.

    Args:
        connection: As for :func:`read_last_event`.
        databases: Physical names of the set.
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
    """Return when the last of some events was written, of whatever change; None where none was.

    Args:
        connection: As for :func:`read_last_event`.
        events: Which.
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
    """Tell whether the last word on a change that was cut over is its commit."""
    events = (CutOverEvent.CUT_OVER, CutOverEvent.REVERTED, CutOverEvent.COMMITTED)
    record = read_last_event(connection, change_id, events)
    return record is not None and record.event is CutOverEvent.COMMITTED


def read_fences(connection: Connection) -> dict[str, FenceState]:
    """Return what is to be restored, by physical name; empty where nothing is fenced."""
    if not _has_tables(connection):
        return {}
    found = fetch_rows(
        connection,
        "SELECT database, allow_connections, connection_limit, change FROM public.fences",
    )
    return {name: FenceState(allow, limit, change) for name, allow, limit, change in found}


# ---- versions of closed databases ----------------------------------------------------------------

# Whether a closed database was opened by anybody: the version of its entry in the catalogue.
#
# Who opens a database, renames it or grants a right on it writes its row of pg_database again, and
# the row's xmin is then another one, also where everything is put back afterwards. So the version
# is written down in the transaction that closes the database, every act of our own that alters the
# row renews it, and the cut-over compares. Neither a VACUUM nor the server's own book-keeping
# (which writes the row in place) changes it; a GRANT, a new limit and the like do, and are not told
# apart from an opening: then the change goes back.

# Stays, whatever becomes of the entry: that it was opened once is enough.
OPENED_VERSION = "opened"


def read_expected_versions(
    connection: Connection, databases: Iterable[str]
) -> dict[str, tuple[str, str]]:
    """Return change and version by physical name, for those of which it is known."""
    if not has_tables(connection, "versions"):
        return {}
    found = fetch_rows(
        connection,
        "SELECT database, change, version FROM public.versions WHERE database = ANY(%s)",
        [list(databases)],
    )
    return {database: (change, version) for database, change, version in found}


def record_versions(connection: Connection, change: ChangeRef, databases: Iterable[str]) -> None:
    """Write down what the entries are now, as this transaction sees them."""
    execute(
        connection,
        "INSERT INTO public.versions SELECT datname, %s, oid::text || '/' || xmin::text"
        " FROM pg_database WHERE datname = ANY(%s) ON CONFLICT (database)"
        " DO UPDATE SET change = excluded.change, version = excluded.version",
        [change.id, list(databases)],
    )


def forget_versions(connection: Connection, databases: Iterable[str]) -> None:
    """Say no more of these databases."""
    known = read_expected_versions(connection, databases)
    if known:
        execute(connection, "DELETE FROM public.versions WHERE database = ANY(%s)", [list(known)])


def find_opened_in_transaction(
    server: Server, connection: Connection, databases: Iterable[str]
) -> tuple[str, ...]:
    """Return those whose entry somebody else has written since it was expected.

    Call it after this transaction altered the entries and before :func:`renew_versions`: what is
    altered cannot be altered by anybody else, so another session sees exactly what was replaced.

    Args:
        server: Where the other session is opened.
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
    """Return those whose entry somebody else has written; for a look outside of any act."""
    known = read_expected_versions(connection, databases)
    return _find_changed(known, _read_versions(connection, known))


def renew_versions(connection: Connection, databases: Iterable[str], opened: Iterable[str]) -> None:
    """Expect the entries as this transaction leaves them, but never again what was opened."""
    execute(
        connection,
        "UPDATE public.versions v SET version = CASE WHEN d.datname = ANY(%s) THEN %s"
        " ELSE d.oid::text || '/' || d.xmin::text END"
        " FROM pg_database d WHERE d.datname = v.database AND d.datname = ANY(%s)",
        [list(opened), OPENED_VERSION, list(databases)],
    )


def alter_and_renew(
    server: Server, connection: Connection, database: str, statements: Iterable[str]
) -> None:
    """Alter the entry of one database, in one transaction with what is expected of it."""
    with connection.transaction():
        execute_all(connection, statements)
        known = read_expected_versions(connection, [database])
        if known:
            renew_versions(connection, known, _find_opened_outside(server, known))


def mark_opened(connection: Connection, databases: Iterable[str]) -> None:
    """Write that somebody was inside."""
    known = read_expected_versions(connection, databases)
    if known:
        execute(
            connection,
            "UPDATE public.versions SET version = %s WHERE database = ANY(%s)",
            [OPENED_VERSION, list(known)],
        )


def _find_changed(
    known: Mapping[str, tuple[str, str]], entries: Mapping[str, str]
) -> tuple[str, ...]:
    return tuple(sorted(name for name, (_, one) in known.items() if entries.get(name) != one))


def _read_versions(connection: Connection, databases: Iterable[str]) -> Mapping[str, str]:
    found = fetch_rows(
        connection,
        "SELECT datname, oid::text || '/' || xmin::text FROM pg_database WHERE datname = ANY(%s)",
        [list(databases)],
    )
    return dict(found)
