"""The control database: what happened to the set, written in the transactions that did it.

One cannot rename the database that one is connected to, so the cut-over needs a database outside
the set; its rows and the renames commit together. It is made on the first act, never by a fact.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import psycopg

from ncen_updater.agent.databases.base import ChangeRef, Marker
from ncen_updater.agent.databases.postgresql.catalogue import read_databases, server_major
from ncen_updater.agent.databases.postgresql.connection import (
    FALLBACKS,
    Connection,
    Server,
    rows,
    run,
)
from ncen_updater.agent.databases.postgresql.datadir import find_data_directory
from ncen_updater.agent.databases.postgresql.planning import choose_oid
from ncen_updater.agent.databases.postgresql.quoting import identifier
from ncen_updater.common.database_words import said

logger = logging.getLogger(__name__)

_TABLES = (
    "CREATE TABLE IF NOT EXISTS public.cut_overs ("
    " seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, change text NOT NULL,"
    " direction text NOT NULL, generation bigint NOT NULL, release text NOT NULL,"
    " fences jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE IF NOT EXISTS public.fences ("
    " database text PRIMARY KEY, change text NOT NULL, allow_connections boolean NOT NULL,"
    " connection_limit integer NOT NULL, at timestamptz NOT NULL DEFAULT now())",
)

# By the number of its cut-over's transaction, rows that are younger than a change can be told.
_MOMENTS = (
    "CREATE TABLE IF NOT EXISTS public.moments (change text PRIMARY KEY, transaction xid8 NOT NULL)"
)

# A rename waits 5 s for sessions before it gives up, and then the dead agent's session ends.
SETTLE_MS = 60_000


NUMBERS = 5  # tried for the control database before the server chooses one
# One agent at a time makes the control database: "ncen-upd" as a number.
MAKING = 0x6E63656E2D757064


class SwapEvent(StrEnum):
    """What a row of the control database says."""

    OVER = "over"
    BACK = "back"
    COMMITTED = "committed"  # officers may be in; nothing is cut back any more


@dataclass(frozen=True)
class FenceRecord:
    """What to restore when a database is opened again, and the change that closed it."""

    allow: bool
    limit: int
    change: str = ""


@dataclass(frozen=True)
class SwapRecord:
    """The last row of a change."""

    event: SwapEvent
    fences: Mapping[str, FenceRecord]


class Control:
    """Opens the control database for acts.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = server.settings.control_database

    def ensure(self) -> None:
        """Make the database and its tables where they are missing."""
        with self._server.facts() as connection:
            if connection.info.dbname == self._name and _has_tables(connection):
                return
        # Asked anew: another agent may have made it meanwhile, and what it made is no orphan.
        with self._making() as connection:
            if not _exists(connection, self._name):
                self._create(connection)
            with self._server.session(self._name, purpose="control") as control:
                for statement in _TABLES:
                    run(control, statement)

    @contextlib.contextmanager
    def _making(self) -> Iterator[Connection]:
        """Hold what only one agent on this server may hold; it ends with the session.

        The lock is kept by a server that still works for an agent that was killed.
        """
        with self._server.facts(control=False) as connection:
            run(connection, f"SET lock_timeout = {SETTLE_MS}")
            run(connection, "SELECT pg_advisory_lock(%s)", [MAKING])
            yield connection

    @contextlib.contextmanager
    def transaction(self, *, lock_s: float | None = None) -> Iterator[Connection]:
        """One transaction that is on the disk when the block ends well; the driver's errors."""
        connection = self._server.open(self._name, purpose="control")
        try:
            with connection.transaction():
                run(connection, "SET LOCAL synchronous_commit = on")
                # One writer at a time; whoever wants to know the truth waits for it (see settled).
                run(connection, "LOCK TABLE public.cut_overs IN EXCLUSIVE MODE")
                if lock_s is not None:
                    run(connection, f"SET LOCAL lock_timeout = {int(lock_s * 1000)}")
                yield connection
        finally:
            connection.close()

    def write(
        self,
        connection: Connection,
        change: ChangeRef,
        event: SwapEvent,
        opened: Mapping[str, FenceRecord] | None = None,
    ) -> None:
        """Add a row; the fences that stand now go into it.

        Args:
            connection: In a transaction of :meth:`transaction`.
            change: What was done.
            event: The row's word.
            opened: Databases that it is said of and that no fence names any more.
        """
        fences = {
            database: [fence.allow, fence.limit]
            for database, fence in {**(opened or {}), **read_fences(connection)}.items()
        }
        run(
            connection,
            "INSERT INTO public.cut_overs (change, direction, generation, release, fences)"
            " VALUES (%s, %s, %s, %s, %s)",
            [change.id, event.value, change.generation, change.release, json.dumps(fences)],
        )
        if event is SwapEvent.OVER:
            run(connection, _MOMENTS)
            run(
                connection,
                "INSERT INTO public.moments VALUES (%s, pg_current_xact_id())"
                " ON CONFLICT (change) DO UPDATE SET transaction = excluded.transaction",
                [change.id],
            )

    def _create(self, connection: Connection) -> None:
        name = identifier(self._name)
        # template0 has no sessions that could stand in the way.
        statement = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
        # Another agent may have been faster.
        with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            if server_major(connection) < 15:
                run(connection, statement)
            else:
                self._create_numbered(connection, statement)
        run(connection, f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")

    def _create_numbered(self, connection: Connection, statement: str) -> None:
        """Make it under a number that can be foretold, and remove what a killed server left of it.

        Out of the agent's sight such a directory stays, of some megabytes, and the next number is
        taken.
        """
        taken = {row.oid for row in read_databases(connection).values()}
        directory = find_data_directory(self._server, connection)
        for _ in range(NUMBERS):
            oid = choose_oid("control", self._name, taken)
            if directory is not None and not being_made(connection, oid):
                directory.remove(oid)
            try:
                run(connection, f"{statement} OID {oid}")
            except psycopg.errors.InvalidParameterValue as error:
                logger.warning("base/%d is in the way: %s", oid, said(error))
                taken.add(oid)
            else:
                return
        run(connection, statement)


def being_made(connection: Connection, oid: int) -> bool:
    """Whether the server is making a database under a number, maybe for a dead agent."""
    found = rows(
        connection,
        "SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active'"
        " AND query LIKE 'CREATE DATABASE %%' AND query LIKE %s",
        [f"% OID {oid}%"],
    )
    return bool(found)


def _exists(connection: Connection, name: str) -> bool:
    return bool(rows(connection, "SELECT FROM pg_database WHERE datname = %s", [name]))


def _has_tables(connection: Connection) -> bool:
    if connection.info.dbname in FALLBACKS:
        return False
    found = rows(
        connection,
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        " AND tablename IN ('cut_overs', 'fences')",
    )
    return bool(found[0][0] == len(_TABLES))


@contextlib.contextmanager
def settled(server: Server) -> Iterator[Connection]:
    """Open a session for reading, in one snapshot, once no transaction of an act is under way.

    The server may still be working for an agent that was killed: what it is about to commit must
    not be overlooked.
    """
    with server.facts() as connection, connection.transaction():
        if _has_tables(connection):
            run(connection, f"SET LOCAL lock_timeout = {SETTLE_MS}")
            run(connection, "LOCK TABLE public.cut_overs IN SHARE MODE")
        yield connection


def read_record(
    connection: Connection, change_id: str, events: Sequence[SwapEvent] = tuple(SwapEvent)
) -> SwapRecord | None:
    """Return the last row of a change; None where there is none, or no control database yet.

    Args:
        connection: A session of :meth:`Server.facts` or of :meth:`Control.transaction`.
        change_id: The change.
        events: Look at these only.
    """
    if not _has_tables(connection):
        return None
    found = rows(
        connection,
        "SELECT direction, fences FROM public.cut_overs WHERE change = %s"
        " AND direction = ANY(%s) ORDER BY seq DESC LIMIT 1",
        [change_id, [event.value for event in events]],
    )
    if not found:
        return None
    direction, fences = found[0]
    return SwapRecord(
        SwapEvent(direction),
        {name: FenceRecord(bool(pair[0]), int(pair[1])) for name, pair in fences.items()},
    )


def read_moment(connection: Connection, change_id: str) -> int | None:
    """Return the number of the transaction of a change's last cut-over; None if it is not known."""
    if not _has_tables(connection):
        return None
    if rows(connection, "SELECT to_regclass('public.moments') IS NULL")[0][0]:
        return None
    found = rows(
        connection,
        "SELECT transaction::text::bigint FROM public.moments WHERE change = %s",
        [change_id],
    )
    return int(found[0][0]) if found else None


def read_standing(connection: Connection, databases: Collection[str]) -> Marker | None:
    """Return what the last cut-over of a set that was not undone made of it; None if not known.

    Other sets may have rows in the same control database: a row counts that names all of these.

    Args:
        connection: As for :func:`read_record`.
        databases: Physical names of the set.
    """
    if not _has_tables(connection):
        return None
    found = rows(
        connection,
        "SELECT o.release, o.generation, o.change FROM public.cut_overs o"
        " WHERE o.direction = %s AND o.fences ?& %s AND NOT EXISTS ("
        " SELECT FROM public.cut_overs b WHERE b.change = o.change AND b.direction = %s"
        " AND b.seq > o.seq) ORDER BY o.seq DESC LIMIT 1",
        [SwapEvent.OVER.value, sorted(databases), SwapEvent.BACK.value],
    )
    return Marker(found[0][0], int(found[0][1]), found[0][2]) if found else None


def read_last(connection: Connection, events: Sequence[SwapEvent]) -> datetime | None:
    """Return when the last of some events was written, of whatever change; None where none was.

    Args:
        connection: As for :func:`read_record`.
        events: Which.
    """
    if not _has_tables(connection):
        return None
    found = rows(
        connection,
        "SELECT max(at) FROM public.cut_overs WHERE direction = ANY(%s)",
        [[event.value for event in events]],
    )
    last: datetime | None = found[0][0]
    return last


def is_recorded(connection: Connection, change_id: str) -> bool:
    """Whether the last word on a change that was cut over is its commit."""
    events = (SwapEvent.OVER, SwapEvent.BACK, SwapEvent.COMMITTED)
    record = read_record(connection, change_id, events)
    return record is not None and record.event is SwapEvent.COMMITTED


def read_fences(connection: Connection) -> dict[str, FenceRecord]:
    """Return what is to be restored, by physical name; empty where nothing is fenced."""
    if not _has_tables(connection):
        return {}
    found = rows(
        connection,
        "SELECT database, allow_connections, connection_limit, change FROM public.fences",
    )
    return {name: FenceRecord(allow, limit, change) for name, allow, limit, change in found}
