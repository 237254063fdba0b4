"""The agent's own sessions in databases that are closed to everybody."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator

from ncen_updater.agent.databases.errors import DatabaseUnreachable
from ncen_updater.agent.databases.postgresql.barring import is_barred
from ncen_updater.agent.databases.postgresql.connection import Connection, Server, rows, run
from ncen_updater.agent.databases.postgresql.quoting import identifier
from ncen_updater.agent.databases.postgresql.versions import mark_opened, own_act
from ncen_updater.agent.databases.postgresql.visits import mark_strangers, note_visit


class Visitor:
    """Enters databases that are closed to everybody, and leaves them closed.

    A database without ALLOW_CONNECTIONS refuses even superusers, so it is opened for the moment in
    which the agent's own session begins. Candidates and previous databases have names that no
    program knows; a live one that is counted before a change goes back also gets a connection limit
    for that moment, and whoever slipped in is ended. Where the session is one of the application's
    role, the limit leaves room for that one alone.

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
        as_owner: bool = False,
    ) -> Connection:
        """Open a session in a database that may be closed; the caller closes the session.

        Args:
            database: Physical name.
            guard: Limit the connections for the moment in which the database is open.
            purpose: As for :meth:`Server.open`.
            statement_s: As for :meth:`Server.open`.
            as_owner: As for :meth:`Server.open`.
        """
        others = as_owner and self._server.owner_logs_in is not False
        with contextlib.ExitStack() as undo:
            opened = self.opened(database, guard=guard, others=others)
            with self._locks[database], opened as outside:
                noted = outside if guard and others else None
                try:
                    connection = self._server.open(
                        database, purpose=purpose, statement_s=statement_s, as_owner=as_owner
                    )
                except DatabaseUnreachable:
                    if noted is not None:  # somebody else may have taken the one place there was
                        mark_opened(noted, [database])
                    raise
                undo.callback(connection.close)
                if noted is not None:
                    note_visit(noted, connection.info.backend_pid)
                    mark_strangers(noted, [database])
            # Only once the door is closed behind us; where that fails the session ends too.
            undo.pop_all()
            return connection

    def is_owner_barred(self, database: str) -> bool:
        """Whether a change of ours, and no administrator, keeps the application's role out."""
        with self._server.facts() as outside:
            admitted = self._admitted(outside, database, self._server.settings.owner)
            return not admitted and is_barred(outside, database)

    @contextlib.contextmanager
    def admitting_owner(self, database: str) -> Iterator[None]:
        """Let the application's role into a database that is open, for a block.

        Between cut-over and commit it may be others in which the application logs in.
        """
        owner = self._server.settings.owner
        right = f"CONNECT ON DATABASE {identifier(database)}"
        with self._server.facts() as outside:
            run(outside, f"GRANT {right} TO {identifier(owner)}")
            try:
                yield
            finally:
                run(outside, f"REVOKE {right} FROM {identifier(owner)}")

    @contextlib.contextmanager
    def opened(
        self, database: str, *, guard: bool, others: bool = False
    ) -> Iterator[Connection | None]:
        """Keep a closed database open for a block, then close it again.

        Args:
            database: Physical name.
            guard: Limit the connections meanwhile: to one more, or to the agent's own.
            others: Whether another role than the agent's is to come in all the same.

        Yields:
            The session that opened it; None where it was open.
        """
        alter = f"ALTER DATABASE {identifier(database)}"
        with self._server.facts() as outside:
            found = rows(
                outside,
                "SELECT datallowconn, (SELECT count(*) FROM pg_stat_activity a"
                " WHERE a.datid = d.oid AND a.usesysid IS NOT NULL) FROM pg_database d"
                " WHERE datname = %s",
                [database],
            )
            if not found or found[0][0]:
                yield None
                return
            most = found[0][1] + 1 if others else self._limit(outside)
            limits = [f"{alter} CONNECTION LIMIT {most}"] if guard else []
            # Between cut-over and commit it may be others in which the application logs in.
            owner = self._server.settings.owner
            admit = others and not self._admitted(outside, database, owner)
            right = f"CONNECT ON DATABASE {identifier(database)}"
            grant = [f"GRANT {right} TO {identifier(owner)}"] if admit else []
            revoke = [f"REVOKE {right} FROM {identifier(owner)}"] if admit else []
            let_in = [*limits, *grant, f"{alter} ALLOW_CONNECTIONS true"]
            own_act(self._server, outside, database, let_in)
            try:
                yield outside
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
