"""Sessions: every one with time-outs, a name, and errors in our own words."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import psycopg
from psycopg.pq import PGconn, Ping

from ncen_updater.agent.databases.errors import DatabaseError, DatabaseUnreachable
from ncen_updater.agent.databases.postgresql.kind import PostgresSettings
from ncen_updater.common.database_words import said
from ncen_updater.common.messages import (
    DATABASE_UNKNOWN,
    PASSWORD_MISSING,
    PASSWORD_REFUSED,
    ROLE_UNKNOWN,
    Message,
)

__all__ = ["Connection", "Server", "ServerLimits", "rows", "run", "translated", "why_refused"]

logger = logging.getLogger(__name__)

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

FALLBACKS = ("postgres", "template1")


@dataclass(frozen=True)
class ServerLimits:
    """Seconds that our own work may take.

    Attributes:
        connect_s: Until a session stands.
        lock_s: Waiting for one lock.
        statement_s: One ordinary statement.
        long_s: One statement that copies, drops, reads or analyses whole databases.
        terminate_s: Until ended sessions are gone.
        recover_s: How long a server that went away in an act is waited for.
    """

    connect_s: int = 10
    lock_s: float = 10.0
    statement_s: float = 60.0
    long_s: float = 6 * 3600.0
    terminate_s: float = 30.0
    recover_s: float = 60.0


def run(connection: Connection, sql: str, parameters: Sequence[object] | None = None) -> None:
    """Run a statement whose rows are of no interest."""
    connection.execute(sql.encode(), parameters)


def rows(
    connection: Connection, sql: str, parameters: Sequence[object] | None = None
) -> list[tuple[Any, ...]]:
    """Run a query and return its rows."""
    return connection.execute(sql.encode(), parameters).fetchall()


@contextlib.contextmanager
def translated(database: str) -> Iterator[None]:
    """Turn an error of the driver into one of ours.

    Raises:
        DatabaseError: With the server's message as detail.
    """
    try:
        yield
    except psycopg.Error as error:
        raise DatabaseError(database=database, detail=said(error)) from error


def why_refused(text: str) -> Message | None:
    """Return what a server that runs refuses a session for; None where no server answered; pure.

    Before a session stands a server tells no code, only words; in another language the general
    sentence is told, with the words.
    """
    for words, message in (
        (r"no password supplied", PASSWORD_MISSING),
        (r"password authentication failed", PASSWORD_REFUSED),
        (r'role ".*" does not exist', ROLE_UNKNOWN),
        (r'database ".*" does not exist', DATABASE_UNKNOWN),
    ):
        if re.search(words, text):
            return message
    return None


class Server:
    """Opens sessions on one server.

    Args:
        settings: Where it is and who we are.
        limits: Time-outs.
    """

    def __init__(self, settings: PostgresSettings, limits: ServerLimits) -> None:
        self.settings = settings
        self.limits = limits

    def open(
        self,
        database: str,
        *,
        purpose: str = "",
        statement_s: float | None = None,
        role: str | None = None,
    ) -> Connection:
        """Open a session in autocommit mode; the caller closes it.

        Args:
            database: Physical name.
            purpose: Follows ``ncen-updater`` in the application's name.
            statement_s: Longest statement; the ordinary limit by default.
            role: Role to take on at once.

        Raises:
            DatabaseUnreachable: If there is no session.
        """
        statement = self.limits.statement_s if statement_s is None else statement_s
        options = (
            f"-c statement_timeout={int(statement * 1000)}"
            f" -c lock_timeout={int(self.limits.lock_s * 1000)}"
            " -c idle_in_transaction_session_timeout=0"
        )
        if role is not None:
            options += f" -c role={role}"
        try:
            connection = psycopg.connect(
                host=self.settings.host,
                port=self.settings.port,
                user=self.settings.user,
                dbname=database,
                connect_timeout=self.limits.connect_s,
                application_name=f"ncen-updater {purpose}".strip(),
                options=options,
                autocommit=True,
                **self._password(),
            )
        except psycopg.Error as error:
            text = str(error).strip()
            raise DatabaseUnreachable(
                why_refused(text), database=database, user=self.settings.user, detail=said(error)
            ) from error
        connection.prepare_threshold = None
        return connection

    def answers(self) -> bool:
        """Whether the server takes sessions: not while it is down, starts or recovers."""
        settings = self.settings
        where = psycopg.conninfo.make_conninfo(
            host=settings.host,
            port=settings.port,
            dbname=FALLBACKS[0],
            connect_timeout=self.limits.connect_s,
        )
        return PGconn.ping(where.encode()) == Ping.OK

    @contextlib.contextmanager
    def session(
        self,
        database: str,
        *,
        purpose: str = "",
        statement_s: float | None = None,
        role: str | None = None,
    ) -> Iterator[Connection]:
        """Open a session for a block; errors of the driver in it become ours."""
        connection = self.open(database, purpose=purpose, statement_s=statement_s, role=role)
        try:
            with translated(database):
                yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def facts(
        self, *, statement_s: float | None = None, control: bool = True
    ) -> Iterator[Connection]:
        """Open a session outside the set, for reading: in the control database, else elsewhere.

        Args:
            statement_s: As for :meth:`open`.
            control: False to leave the control database out.

        Raises:
            DatabaseUnreachable: If there is none to be had.
        """
        connection = self._facts(statement_s, control)
        try:
            with translated(connection.info.dbname):
                yield connection
        finally:
            connection.close()

    def _facts(self, statement_s: float | None, control: bool) -> Connection:
        first: DatabaseUnreachable | None = None
        for database in (*([self.settings.control_database] if control else []), *FALLBACKS):
            try:
                return self.open(database, purpose="facts", statement_s=statement_s)
            except DatabaseUnreachable as error:
                first = first or error
        assert first is not None  # noqa: S101 - the loop ran at least once
        raise first

    def url(self, database: str, *, as_owner: bool = False) -> str:
        """Return a URL that libpq and SQLAlchemy understand; without a password.

        Args:
            database: Physical name.
            as_owner: Log in as the owner, and not as the agent that takes on its role.
        """
        settings = self.settings
        values = {"host": settings.host, "port": settings.port}
        if not as_owner:
            values["options"] = f"-c role={settings.owner}"
        user = settings.owner if as_owner else settings.user
        query = urlencode(values, quote_via=quote)
        return f"postgresql://{quote(user)}@/{quote(database)}?{query}"

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a child process that connects: a password file, no password."""
        environment = dict(os.environ if base is None else base)
        environment.pop("PGPASSWORD", None)
        if self.settings.password_file is not None:
            environment["PGPASSFILE"] = str(self.settings.password_file)
        return environment

    def _password(self) -> dict[str, Any]:
        if self.settings.password_file is None:
            return {}
        return {"passfile": str(self.settings.password_file)}
