"""Sessions in the databases of a change: the one place that opens them.

What stands on objects of the application's, in tables, views, defaults, casts, runs in a session of
its role: a function that it left there runs with its rights. The agent's own session reads the
catalogue alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ncen_updater.agent.databases.base import Candidate, ChangeRef, Live, Place
from ncen_updater.agent.databases.errors import DatabaseUnreachable
from ncen_updater.agent.databases.postgresql.at_work import AtWork
from ncen_updater.agent.databases.postgresql.connection import (
    Connection,
    Server,
    forbid_views,
    rows,
    run,
    translated,
)
from ncen_updater.agent.databases.postgresql.naming import database_name
from ncen_updater.agent.databases.postgresql.reading import read_only
from ncen_updater.agent.databases.postgresql.visiting import Visitor

# SET ROLE does not bring the role's own settings, but its SQL was written under this one.
_SEARCH_PATH = """
SELECT split_part(c, '=', 2) FROM pg_db_role_setting s, unnest(s.setconfig) c
WHERE c LIKE 'search\\_path=%%'
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = %s))
ORDER BY (s.setrole <> 0 AND s.setdatabase <> 0) DESC, s.setrole <> 0 DESC LIMIT 1
"""


class Sessions:
    """Opens sessions in live, candidate and previous databases.

    Args:
        server: The server.
        names: Logical to physical names.
    """

    def __init__(self, server: Server, names: Mapping[str, str]) -> None:
        self._server = server
        self._visitor = Visitor(server)
        self._names = names
        self.at_work = AtWork(server)
        self._held: dict[tuple[str, bool], Connection] | None = None
        self._locks: defaultdict[tuple[str, bool], threading.Lock] = defaultdict(threading.Lock)

    def physical(self, place: Place) -> str:
        """Return the name in the server."""
        return database_name(place, self._names[place.name])

    def open(
        self,
        place: Place,
        *,
        statement_s: float | None = None,
        fenced: bool = False,
        as_owner: bool = True,
    ) -> Connection:
        """Open a session of the application's role in autocommit mode; the caller closes it.

        Args:
            place: A live database is entered only while it is open to all.
            statement_s: As for :meth:`Server.open`.
            fenced: Enter a live database that is closed.
            as_owner: False for :meth:`catalogue` alone.
        """
        database = self.physical(place)
        if isinstance(place, Live) and not fenced:
            connection = self._live(database, as_owner=as_owner, statement_s=statement_s)
        else:
            connection = self._visitor.open(
                database,
                guard=fenced,
                purpose="" if isinstance(place, Live) else place.change.id,
                statement_s=statement_s,
                as_owner=as_owner,
            )
        try:
            self.at_work.add(connection)
            if as_owner and not self._server.owner_logs_in:
                self._take_search_path(connection, database)
        except BaseException:
            connection.close()
            raise
        return connection

    def _live(self, database: str, *, as_owner: bool, statement_s: float | None) -> Connection:
        try:
            return self._server.open(database, statement_s=statement_s, as_owner=as_owner)
        except DatabaseUnreachable:
            if not as_owner or not self._visitor.is_owner_barred(database):
                raise
        with self._visitor.admitting_owner(database):
            return self._server.open(database, statement_s=statement_s, as_owner=True)

    @contextlib.contextmanager
    def counting(
        self, place: Place, *, statement_s: float, fenced: bool = False
    ) -> Iterator[Connection]:
        """Open a session of the application's role for a block that counts rows of tables."""
        connection = self.open(place, statement_s=statement_s, fenced=fenced)
        with contextlib.closing(connection), translated(self.physical(place)):
            forbid_views(connection)
            read_only(connection)
            yield connection

    def catalogue(self, place: Place) -> contextlib.AbstractContextManager[Connection]:
        """Open a session of the agent's own role for a block that reads the catalogue alone."""
        return self._session(place, as_owner=False)

    def session(
        self, place: Place, *, statement_s: float | None = None
    ) -> contextlib.AbstractContextManager[Connection]:
        """Open a session of the application's role for a block; see :meth:`_session`."""
        return self._session(place, as_owner=True, statement_s=statement_s)

    @contextlib.contextmanager
    def _session(
        self, place: Place, *, as_owner: bool, statement_s: float | None = None
    ) -> Iterator[Connection]:
        """Open a session for a block; the driver's errors become ours.

        In a block of :meth:`held` a candidate has one session for all questions and each side; what
        a question leaves open in it is rolled back.
        """
        if isinstance(place, Candidate) and self._held is not None:
            with self._held_session(place, as_owner, statement_s) as connection:
                yield connection
            return
        connection = self.open(place, as_owner=as_owner, statement_s=statement_s)
        with contextlib.closing(connection), translated(self.physical(place)):
            yield connection

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the sessions in candidates open from one question to the next, for a block.

        To enter a closed database takes longer than most questions do.
        """
        if self._held is not None:
            yield
            return
        self._held = {}
        try:
            with self.at_work.begun():
                yield
        finally:
            held, self._held = self._held, None
            for connection in held.values():
                connection.close()

    def processes(self, connection: Connection) -> list[int]:
        """Return the numbers of a session and of those that are kept open, in the server."""
        held = list((self._held or {}).values())
        return [item.info.backend_pid for item in (connection, *held) if not item.closed]

    @contextlib.contextmanager
    def _held_session(
        self, place: Candidate, as_owner: bool, statement_s: float | None
    ) -> Iterator[Connection]:
        held = self._held
        assert held is not None  # noqa: S101 - looked at by the caller
        database = self.physical(place)
        key = (database, as_owner)
        with self._locks[key]:
            connection = held.get(key)
            if connection is None or connection.closed:
                connection = self.open(place, as_owner=as_owner)
                held[key] = connection
            with translated(database):
                limit = self._server.limits.statement_s if statement_s is None else statement_s
                run(connection, f"SET statement_timeout = {int(limit * 1000)}")
                try:
                    yield connection
                finally:
                    connection.prepare_threshold = None
                    if not connection.closed:
                        # With it go the prepared statements: a migration may change their form.
                        connection.rollback()

    @contextlib.contextmanager
    def opened(self, change: ChangeRef, *, owner: bool = False) -> Iterator[None]:
        """Keep every candidate open for a program of its own, which connects as it likes.

        Args:
            change: Whose candidates.
            owner: Whether the program logs in as the owner of the databases.
        """
        with contextlib.ExitStack() as stack:
            for name in self._names:
                database = self.physical(change.candidate(name))
                stack.enter_context(self._visitor.opened(database, guard=False, others=owner))
            yield

    def _take_search_path(self, connection: Connection, database: str) -> None:
        # Without it a migration might find other tables than it was written for: no suppressing.
        with translated(database):
            for (path,) in rows(connection, _SEARCH_PATH, [self._server.settings.owner]):
                run(connection, "SELECT set_config('search_path', %s, false)", [path])
