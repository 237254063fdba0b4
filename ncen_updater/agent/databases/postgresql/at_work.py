"""Our own sessions that are at work in other threads, to be ended from outside."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.postgresql.connection import Connection, Server, run

# By role and database as well: the number may be another session's by now. Not by the name that a
# session gives itself, since a migration could give it another one.
_END = (
    "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a"
    " JOIN unnest(%s::int[], %s::text[], %s::text[]) AS ours(pid, role, database)"
    " ON a.pid = ours.pid AND a.usename = ours.role AND a.datname = ours.database"
)

logger = logging.getLogger(__name__)


class AtWork:
    """The sessions of acts that run side by side.

    The server undoes wholly what an ended session had not finished, a CREATE DATABASE included.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._sessions: dict[int, Connection] | None = None
        self._ended = False

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Take sessions in for a block; outside of one nothing is taken in or ended."""
        with self._lock:
            self._sessions, self._ended = {}, False
        try:
            yield
        finally:
            with self._lock:
                self._sessions, self._ended = None, False

    def add(self, connection: Connection) -> None:
        """Take a session in.

        Raises:
            DatabaseError: If what is at work is being ended: nothing new is begun.
        """
        with self._lock:
            if self._ended:
                raise DatabaseError(database=connection.info.dbname, detail="ended")
            if self._sessions is not None:
                self._sessions[connection.info.backend_pid] = connection

    def end(self) -> None:
        """End every session that is at work, and let none begin."""
        with self._lock:
            self._ended = self._sessions is not None
            known = self._sessions or {}
            found = [
                (number, item.info.user, item.info.dbname)
                for number, item in known.items()
                if not item.closed
            ]
        if not found:
            return
        try:
            with self._server.facts() as outside:
                run(outside, _END, [list(column) for column in zip(*found, strict=True)])
        except DatabaseError as error:
            # Asked again until they are over; a server that is gone has ended them as well.
            logger.warning("sessions could not be ended: %s", error.detail or error)
