"""The agent's own sessions in databases that are closed to everybody."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator

from ncen_updater.agent.databases.postgresql.connection import Connection, Server, rows
from ncen_updater.agent.databases.postgresql.quoting import identifier
from ncen_updater.agent.databases.postgresql.versions import own_act

__all__ = ["Visitor"]


class Visitor:
    """Enters databases that are closed to everybody, and leaves them closed.

    A database without ALLOW_CONNECTIONS refuses even superusers, so it is opened for the moment in
    which the agent's own session begins. Candidates and previous databases have names that no
    program knows; a live one that is migrated in place also gets a connection limit for that
    moment, and whoever slipped in is ended.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        # One a database: several are worked on side by side.
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def open(
        self,
        database: str,
        *,
        guard: bool,
        purpose: str = "",
        statement_s: float | None = None,
        role: str | None = None,
    ) -> Connection:
        """Open a session in a database that may be closed; the caller closes the session.

        Args:
            database: Physical name.
            guard: Limit the connections for the moment in which the database is open.
            purpose: As for :meth:`Server.open`.
            statement_s: As for :meth:`Server.open`.
            role: As for :meth:`Server.open`.
        """
        with contextlib.ExitStack() as undo:
            with self._locks[database], self.opened(database, guard=guard):
                connection = self._server.open(
                    database, purpose=purpose, statement_s=statement_s, role=role
                )
                undo.callback(connection.close)
            # Only once the door is closed behind us; where that fails the session ends too.
            undo.pop_all()
            return connection

    @contextlib.contextmanager
    def opened(self, database: str, *, guard: bool, others: bool = False) -> Iterator[None]:
        """Keep a closed database open for a block, then close it again.

        Args:
            database: Physical name.
            guard: Limit the connections meanwhile.
            others: Whether another role than the agent's is to come in all the same.
        """
        alter = f"ALTER DATABASE {identifier(database)}"
        with self._server.facts() as outside:
            found = rows(
                outside, "SELECT datallowconn FROM pg_database WHERE datname = %s", [database]
            )
            if not found or found[0][0]:
                yield
                return
            most = 8 if others else self._limit(outside)
            limits = [f"{alter} CONNECTION LIMIT {most}"] if guard else []
            # Taken from everybody by the fence (see barring); given back as it was with that.
            owner = self._server.settings.owner
            admit = others and not self._admitted(outside, database, owner)
            right = f"CONNECT ON DATABASE {identifier(database)}"
            grant = [f"GRANT {right} TO {identifier(owner)}"] if admit else []
            revoke = [f"REVOKE {right} FROM {identifier(owner)}"] if admit else []
            let_in = [*limits, *grant, f"{alter} ALLOW_CONNECTIONS true"]
            own_act(self._server, outside, database, let_in)
            try:
                yield
            finally:
                shut = [f"{alter} ALLOW_CONNECTIONS false", *revoke]
                own_act(self._server, outside, database, shut)

    @staticmethod
    def _admitted(outside: Connection, database: str, role: str) -> bool:
        question = "SELECT has_database_privilege(%s, %s, 'CONNECT')"
        return rows(outside, question, [role, database]) == [(True,)]

    @staticmethod
    def _limit(outside: Connection) -> int:
        # A limit of 0 lets only superusers in; for any other agent there must be room for itself.
        superuser = rows(outside, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        return 0 if superuser and superuser[0][0] else 8
