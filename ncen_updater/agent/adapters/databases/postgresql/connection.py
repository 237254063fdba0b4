"""Server: sessions of the agent, with time-outs, a name, and translated errors; quoting in SQL."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import select
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import psycopg
from psycopg.pq import PGconn, Ping, PollingStatus, TransactionStatus

from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.messages import (
    DATABASE_LOGIN_REFUSED,
    DATABASE_UNKNOWN,
    PASSWORD_MISSING,
    PASSWORD_REFUSED,
    ROLE_LOGIN_REFUSED,
    ROLE_UNKNOWN,
    ErrorMessage,
)

logger = logging.getLogger(__name__)


# ---- quoting in SQL ------------------------------------------------------------------------------

# Settings that the server stores as a list of quoted identifiers (its flag GUC_LIST_QUOTE; the same
# list as in pg_dump). Quoting such a value again would make it a single element.
LIST_SETTINGS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


def quote_identifier(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return a text as an SQL literal that is independent of ``standard_conforming_strings``."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def split_identifier_list(value: str) -> list[str]:
    """Split a stored list of identifiers, such as ``"$user", public``, into its names."""
    items: list[str] = []
    current = ""
    quoted = False
    index = 0
    while index < len(value):
        letter = value[index]
        if letter == '"' and quoted and value[index + 1 : index + 2] == '"':
            current += '"'
            index += 1
        elif letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            items.append(current)
            current = ""
        elif quoted or not letter.isspace():
            current += letter
        index += 1
    items.append(current)
    return items


def format_setting_value(name: str, value: str) -> str:
    """Return the right-hand side of ``SET name TO`` for a stored value."""
    if name.lower() in LIST_SETTINGS:
        return ", ".join(quote_literal(item) for item in split_identifier_list(value))
    return quote_literal(value)


class Session(psycopg.Connection[tuple[Any, ...]]):
    """Session of the agent.

    Attributes:
        found_tables: Tables of the agent known to exist in its database; they are never dropped.
        limits_s: Its time-outs for a statement and for a lock, in seconds.
    """

    found_tables: frozenset[str] = frozenset()
    limits_s: tuple[float, float] = (0.0, 0.0)


Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

FALLBACK_DATABASES = ("postgres", "template1")
#: Stands in for the host of a URL if the server listens on a socket; never resolves (RFC 6761).
NO_HOST = "socket.invalid"
#: Prefix of the ``application_name`` of each of the agent's sessions.
APPLICATION_NAME = "ncen-updater"

# Names refer to the server's own objects, whatever search path the owner of a database has set: a
# function that somebody created under such a name would run as the agent's role.
_SEARCH_PATH_OPTION = " -c search_path=pg_catalog,pg_temp"
# Each statement sees what others have committed, names are quoted only where needed, and psycopg
# can read times; whatever the server's administrator prefers.
_AGENT_OPTIONS = (
    _SEARCH_PATH_OPTION + " -c default_transaction_isolation=read\\ committed -c datestyle=ISO"
    " -c intervalstyle=postgres"
)
# Settings of the server, a database or a role are not meant for long operations.
_COMMON_OPTIONS = (
    " -c default_transaction_read_only=off -c idle_session_timeout=0 -c quote_all_identifiers=off"
)
_TRANSACTION_OPTION = " -c transaction_timeout=0"  # unknown before PostgreSQL 17
# SQLSTATE prefix of a session that was ended from outside; a broken connection has no SQLSTATE.
_ENDED = "57P"
# Refusals after authentication: no privilege, database closed, database missing.
_ADMITTED = frozenset({"42501", "55000", "3D000"})
# Refusals before it: too many connections, starting up; 00000 if the second login succeeded.
_BUSY = frozenset({"00000", "53300", "57P03"})
#: SQLSTATEs of class 28: wrong or missing password; any other refusal.
PASSWORD, NOT_ADMITTED = "28P01", "28000"
#: The session was accepted, or needs only its password.
ADMITS = frozenset({"00000", PASSWORD})
# With this verbosity libpq writes the SQLSTATE before the server's message, in any language.
_VERBOSE = 2
_ENDS = (PollingStatus.OK, PollingStatus.FAILED)
_ANSWER = re.compile(r":  ([0-9A-Z]{5}): (.*)")


@dataclass(frozen=True)
class ServerTimeouts:
    """Time limits of the agent's own work, in seconds.

    Attributes:
        connect_s: Opening a session.
        lock_s: Waiting for one lock.
        statement_s: An ordinary statement.
        long_s: A statement that copies, drops, reads or analyses whole databases.
        terminate_s: Waiting until terminated sessions are gone.
        recovery_s: Waiting for a server that was lost in the middle of an operation.
    """

    connect_s: int = 10
    lock_s: float = 10.0
    statement_s: float = 60.0
    long_s: float = 6 * 3600.0
    terminate_s: float = 30.0
    recovery_s: float = 60.0


def execute(connection: Connection, sql: str, parameters: Sequence[object] | None = None) -> None:
    """Run a statement and ignore its rows."""
    connection.execute(sql.encode(), parameters)


def execute_all(connection: Connection, statements: Iterable[str]) -> None:
    """Run statements in one message, which the server treats as one transaction."""
    text = "; ".join(statements)
    if text:
        execute(connection, text)


def fetch_rows(
    connection: Connection, sql: str, parameters: Sequence[object] | None = None
) -> list[tuple[Any, ...]]:
    """Run a query and return its rows."""
    return connection.execute(sql.encode(), parameters).fetchall()


def set_timeouts(connection: Connection, statement_s: float, lock_s: float) -> None:
    """Set the time-outs of a session, unless they are already set; outside a transaction."""
    if getattr(connection, "limits_s", None) != (statement_s, lock_s):
        statement_ms, lock_ms = int(statement_s * 1000), int(lock_s * 1000)
        execute(connection, f"SET statement_timeout = {statement_ms}; SET lock_timeout = {lock_ms}")
        if isinstance(connection, Session):
            connection.limits_s = (statement_s, lock_s)


def is_usable(connection: Connection) -> bool:
    """Tell whether a session is idle and the server has sent nothing meanwhile.

    A server that ends a session sends a message or closes its socket: both make it readable.
    """
    if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    watch = select.poll()
    watch.register(connection.fileno(), select.POLLIN)
    return not watch.poll(0)


@contextlib.contextmanager
def translate_errors(database: str) -> Iterator[None]:
    """Translate an error of the driver.

    Raises:
        DatabaseUnreachableError: The session was lost, or ended from outside.
        DatabaseError: With the server's message as detail.
    """
    try:
        yield
    except (psycopg.Error, UnicodeError) as error:  # a SQL_ASCII database may hold any bytes
        broken = _ENDED if isinstance(error, psycopg.OperationalError) else ""
        lost = (getattr(error, "sqlstate", None) or broken).startswith(_ENDED)
        kind = DatabaseUnreachableError if lost else DatabaseError
        raise kind(database=database, detail=sanitize_error(error)) from error


def forbid_views(connection: Connection) -> None:
    """Restrict a session to tables: somebody may have replaced a table by a view that runs code.

    The setting exists in PostgreSQL 17 and in later minor versions of 14 to 16.
    """
    major, minor = divmod(connection.info.server_version, 10_000)
    if minor >= {14: 13, 15: 8, 16: 4}.get(major, 0):
        execute(connection, "SET restrict_nonsystem_relation_kind = 'view,foreign-table'")


def classify_refusal(code: str | None, message: str) -> ErrorMessage | None:
    """Return the error for a refused session; None for the general one; pure.

    Args:
        code: The SQLSTATE; None if no server answered.
        message: The message. It only refines the error: the server's English text for an unknown
            role, and libpq's own, which is not translated here.
    """
    if code == PASSWORD:
        return PASSWORD_MISSING if "no password supplied" in message else PASSWORD_REFUSED
    if code == NOT_ADMITTED:
        unknown = re.search(r'role ".*" does not exist', message)
        return ROLE_UNKNOWN if unknown else DATABASE_LOGIN_REFUSED
    return DATABASE_UNKNOWN if code == "3D000" else None


def has_tables(connection: Connection, *names: str) -> bool:
    """Tell whether a session is in the control database, and the given tables exist there.

    Tables that were found are not queried again in the same session.

    Args:
        connection: A session of :meth:`Server.open_control_session`.
        names: Tables of the schema ``public``.
    """
    # Tables of another database may belong to anyone.
    if connection.info.dbname in FALLBACK_DATABASES:
        return False
    known: frozenset[str] = getattr(connection, "found_tables", frozenset())
    if not known.issuperset(names):
        question = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        known = frozenset(name for (name,) in fetch_rows(connection, question))
        if isinstance(connection, Session):
            connection.found_tables = known
    return known.issuperset(names)


def is_login_recorded(connection: Connection, role: str) -> bool:
    """Tell whether the control database records that the agent can log in as a role.

    Args:
        connection: A session of :meth:`Server.open_control_session`.
        role: The application's role.
    """
    if not has_tables(connection, "logins"):
        return False
    return bool(fetch_rows(connection, "SELECT FROM public.logins WHERE role = %s", [role]))


def record_login(connection: Connection, server: Server) -> None:
    """Record that the agent can log in as the application's role, if it can.

    Args:
        connection: In a transaction of the control database.
        server: The server.
    """
    if server.has_owner_login:
        statement = "INSERT INTO public.logins VALUES (%s) ON CONFLICT DO NOTHING"
        execute(connection, statement, [server.settings.owner])


class Server:
    """One server, on which the agent opens sessions.

    Args:
        settings: Address of the server, and the roles.
        timeouts: Time-outs.
    """

    def __init__(self, settings: PostgresSettings, timeouts: ServerTimeouts) -> None:
        self.settings = settings
        self.timeouts = timeouts
        self._owner_logs_in: bool | None = None
        self._version = 0  # of the server, since the first session
        self._idle: list[Connection] | None = None
        self._lock = threading.Lock()

    def open_session(
        self,
        database: str,
        *,
        purpose: str = "",
        statement_s: float | None = None,
        as_owner: bool = False,
    ) -> Connection:
        """Open a session in autocommit mode; the caller closes it.

        Args:
            database: Physical name.
            purpose: Appended to ``ncen-updater`` in the application name.
            statement_s: Statement time-out in seconds; the ordinary limit by default.
            as_owner: Log in as the application's role; such a session cannot switch to the agent's
                role. At a site without that login, switch to the role with SET ROLE instead.

        Raises:
            DatabaseUnreachableError: If no session can be opened.
        """
        limits = self._complete_limits(statement_s)
        options = (
            f"-c statement_timeout={int(limits[0] * 1000)}"
            f" -c lock_timeout={int(limits[1] * 1000)}"
            " -c idle_in_transaction_session_timeout=0"
        )
        connection = self._log_in(database, purpose, options, as_owner=as_owner)
        connection.limits_s = limits
        return connection

    def _log_in(self, database: str, purpose: str, options: str, *, as_owner: bool) -> Session:
        name = f"{APPLICATION_NAME} {purpose}".strip()
        if not as_owner:
            return self._connect(database, self.settings.user, name, options + _AGENT_OPTIONS)
        options += f" -c role={self.settings.owner}"
        if self._owner_logs_in is not False:
            try:
                connection = self._connect(database, self.settings.owner, name, options)
            except DatabaseUnreachableError as error:
                refusal = self._explain_login_failure(error)
                if refusal is not None:
                    raise refusal from error
            else:
                self._owner_logs_in = True
                return connection
        connection = self._connect(database, self.settings.user, name, options)
        if self._owner_logs_in is None:
            logger.warning("the server refuses the agent's login as %s", self.settings.owner)
        self._owner_logs_in = False
        return connection

    def _explain_login_failure(
        self, error: DatabaseUnreachableError
    ) -> DatabaseUnreachableError | None:
        """Return the error of a failed login as owner; None if that login was never set up.

        If it was set up and is broken now, the agent does not fall back to SET ROLE: the control
        database records the login for processes that have not used it yet.

        Raises:
            DatabaseUnreachableError: If the agent's own login fails, too.
        """
        code = error.values.get("sqlstate")
        if code in _ADMITTED | _BUSY:
            return error
        owner = self.settings.owner
        # An unreachable server has not refused the login
        with self.open_control_session() as connection:
            if not (self._owner_logs_in or is_login_recorded(connection, owner)):
                return None
        if error.message not in (DATABASE_LOGIN_REFUSED, DatabaseUnreachableError.message):
            return error  # the error already states the reason
        database = error.values.get("database")
        return DatabaseUnreachableError(
            ROLE_LOGIN_REFUSED, database=database, user=owner, detail=error.detail, sqlstate=code
        )

    @property
    def has_owner_login(self) -> bool | None:
        """Return whether the agent can log in as the application's role; None if not tried yet."""
        return self._owner_logs_in

    def check_owner_login(self, database: str) -> bool:
        """Test whether the agent can log in as the application's role.

        Args:
            database: Physical name of a live database, open or closed.

        Raises:
            DatabaseUnreachableError: If the login worked once and fails now, or no login works.
        """
        if self._owner_logs_in is None:
            try:
                self.open_session(database, as_owner=True).close()
            except DatabaseUnreachableError as error:
                if error.values.get("sqlstate") not in _ADMITTED:
                    raise
                self._owner_logs_in = True
        return bool(self._owner_logs_in)

    def _connect(self, database: str, user: str, name: str, options: str) -> Session:
        options += _COMMON_OPTIONS + (_TRANSACTION_OPTION if self._version >= 170_000 else "")
        conninfo = psycopg.conninfo.make_conninfo(
            host=self.settings.host,
            port=self.settings.port,
            user=user,
            dbname=database,
            connect_timeout=self.timeouts.connect_s,
            application_name=name,
            client_encoding="UTF8",  # SQL_ASCII as client encoding would return bytes
            options=options,
            **self._password_options(),
        )
        try:
            connection = Session.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            answered = not isinstance(error, psycopg.errors.ConnectionTimeout)
            code = ask_sqlstate(conninfo, self.timeouts.connect_s)[0] if answered else None
            raise DatabaseUnreachableError(
                classify_refusal(code, str(error)),
                database=database, user=user, detail=sanitize_error(error), sqlstate=code,
            ) from error  # fmt: skip
        connection.prepare_threshold = None
        self._version = connection.info.server_version
        if self._version >= 170_000 and _TRANSACTION_OPTION not in options:
            try:
                execute(connection, "SET transaction_timeout = 0")
            except psycopg.Error as error:
                connection.close()
                detail = sanitize_error(error)
                raise DatabaseUnreachableError(
                    database=database, user=user, detail=detail
                ) from error
        return connection

    def is_accepting_connections(self) -> bool:
        """Tell whether the server accepts connections; it may be down, starting or recovering."""
        settings = self.settings
        conninfo = psycopg.conninfo.make_conninfo(
            host=settings.host,
            port=settings.port,
            dbname=FALLBACK_DATABASES[0],
            connect_timeout=self.timeouts.connect_s,
        )
        return PGconn.ping(conninfo.encode()) == Ping.OK

    @contextlib.contextmanager
    def open_session_block(
        self,
        database: str,
        *,
        purpose: str = "",
        statement_s: float | None = None,
    ) -> Iterator[Connection]:
        """Open a session of the agent's role for a block; the driver's errors are translated.

        In a database of the application it may only read the server's catalogue. Statements on
        objects of the application run in a session of :class:`DatabaseSessions`.
        """
        connection = self.open_session(database, purpose=purpose, statement_s=statement_s)
        try:
            with translate_errors(database):
                yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def open_control_session(
        self,
        *,
        statement_s: float | None = None,
        lock_s: float | None = None,
        control: bool = True,
    ) -> Iterator[Connection]:
        """Open a session in the control database, or else in another database of the server.

        The driver's errors are translated.

        Args:
            statement_s: As for :meth:`open_session`.
            lock_s: Lock time-out in seconds, 0 for none; the ordinary limit by default.
            control: False to use another database in any case.

        Raises:
            DatabaseUnreachableError: If no session can be opened.
        """
        connection = self._take_idle() if control else None
        connection = connection or self._open_any_session(control)
        with (
            translate_errors(connection.info.dbname),
            self._lend(connection, statement_s, lock_s),
        ):
            yield connection

    @contextlib.contextmanager
    def open_write_session(
        self, *, statement_s: float | None = None, lock_s: float | None = None
    ) -> Iterator[Connection]:
        """Open a session in the control database; the driver's errors are not translated.

        Args:
            statement_s: As for :meth:`open_session`.
            lock_s: As for :meth:`open_control_session`.

        Raises:
            DatabaseUnreachableError: If no session can be opened.
        """
        connection = self._take_idle() or self.open_session(
            self.settings.control_database, purpose="control"
        )
        with self._lend(connection, statement_s, lock_s):
            yield connection

    @contextlib.contextmanager
    def reuse_control_sessions(self) -> Iterator[None]:
        """Keep sessions in the control database open for reuse, for a block; may be nested.

        No setting but the time-outs may be left changed in them. A session that the server or
        somebody ended is replaced.
        """
        with self._lock:
            nested = self._idle is not None
            self._idle = self._idle or []
        try:
            yield
        finally:
            if not nested:
                with self._lock:
                    left, self._idle = self._idle, None
                for connection in left or ():
                    connection.close()

    @contextlib.contextmanager
    def _lend(
        self, connection: Connection, statement_s: float | None, lock_s: float | None
    ) -> Iterator[None]:
        """Lend a session for a block, and keep it for the next one if nothing failed."""
        try:
            set_timeouts(connection, *self._complete_limits(statement_s, lock_s))
            yield
        except BaseException:
            connection.close()
            raise
        if not self._keep_idle(connection):
            connection.close()

    def _complete_limits(
        self, statement_s: float | None = None, lock_s: float | None = None
    ) -> tuple[float, float]:
        return (
            self.timeouts.statement_s if statement_s is None else statement_s,
            self.timeouts.lock_s if lock_s is None else lock_s,
        )

    def _take_idle(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if is_usable(connection):
                return connection
            connection.close()

    def _keep_idle(self, connection: Connection) -> bool:
        if connection.info.dbname != self.settings.control_database or not is_usable(connection):
            return False
        with self._lock:
            if self._idle is None:
                return False
            self._idle.append(connection)
        return True

    def _open_any_session(self, control: bool) -> Connection:
        first: DatabaseUnreachableError | None = None
        for database in (
            *([self.settings.control_database] if control else []),
            *FALLBACK_DATABASES,
        ):
            try:
                return self.open_session(database, purpose="facts")
            except DatabaseUnreachableError as error:
                first = first or error
        assert first is not None  # noqa: S101 - the loop ran at least once
        raise first

    def build_address(
        self, database: str, *, as_owner: bool = False, options: Sequence[str] = ()
    ) -> dict[str, str]:
        """Return the URL of a database and its parts, without a password.

        Host and port are where every URL parser expects them. A program that cannot use the
        directory of a socket finds an invalid host name there, so it never connects to another
        server.

        Args:
            database: Physical name.
            as_owner: Log in as the owner; otherwise as the agent, which switches to its role.
            options: Settings of each session, such as ``lock_timeout=3s``.
        """
        settings = self.settings
        user, host = settings.owner if as_owner else settings.user, settings.host
        session_settings = [*([] if as_owner else [f"role={settings.owner}"]), *options]
        pgoptions = " ".join(f"-c {setting}" for setting in session_settings)
        is_host_name = not (host.startswith(("/", "@")) or "," in host)
        parameters = {"host": "" if is_host_name else host, "options": pgoptions}
        query = urlencode(
            {name: text for name, text in parameters.items() if text}, quote_via=quote
        )
        url_host = (f"[{host}]" if ":" in host else host) if is_host_name else NO_HOST
        url = f"postgresql://{quote(user, '')}@{url_host}:{settings.port}/{quote(database, '')}"
        return {
            "URL": f"{url}?{query}" if query else url,
            "HOST": host,
            "PORT": str(settings.port),
            "NAME": database,
            "USER": user,
            "OPTIONS": pgoptions,
        }

    def build_child_environment(self, user: str) -> dict[str, str]:
        """Return the environment of a server program, such as pg_dump, that logs in as a role."""
        # The application name marks its sessions as the agent's.
        environment = {**self.build_environment(), "PGAPPNAME": f"{APPLICATION_NAME} dump"}
        environment.pop("PGCLIENTENCODING", None)  # a dump uses the encoding of its database
        if user == self.settings.owner:
            environment["PGOPTIONS"] = _COMMON_OPTIONS.strip()
        return environment

    def build_environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a child process that connects: a password file, no password."""
        environment = dict(os.environ if base is None else base)
        environment.pop("PGPASSWORD", None)
        # The user's language concerns only the agent's own messages.
        environment.pop("LANGUAGE", None)
        if self.settings.password_file is not None:
            environment["PGPASSFILE"] = str(self.settings.password_file)
        return environment

    def _password_options(self) -> dict[str, Any]:
        if self.settings.password_file is None:
            return {}
        return {"passfile": str(self.settings.password_file)}


def ask_sqlstate(conninfo: str, limit_s: float) -> tuple[str | None, str]:
    """Log in only to learn the server's answer, with its SQLSTATE.

    Args:
        conninfo: Connection string.
        limit_s: Limit of the wait for the answer, in seconds.

    Returns:
        The SQLSTATE, None if no server answered; and the message.
    """
    module: Any = sys.modules[PGconn.__module__]  # psycopg's implementation: ctypes or compiled
    libpq = module.impl.pq if hasattr(module, "impl") else ctypes.CDLL(module.__file__)
    end = time.monotonic() + limit_s
    connection: Any = PGconn.connect_start(conninfo.encode())  # its pointer has no type
    try:
        libpq.PQsetErrorVerbosity(ctypes.c_void_p(connection.pgconn_ptr), _VERBOSE)
        while (state := connection.connect_poll()) not in _ENDS:
            poll, reads = select.poll(), state == PollingStatus.READING
            poll.register(connection.socket, select.POLLIN if reads else select.POLLOUT)
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                return None, f"no answer in {limit_s:.0f} s"
        if state == PollingStatus.OK:
            return "00000", ""
        message = connection.error_message.decode(errors="replace").strip()
        if connection.needs_password:
            return PASSWORD, message
        answer = _ANSWER.search(message)
        return (answer[1], answer[2]) if answer else (None, message)
    finally:
        connection.finish()
