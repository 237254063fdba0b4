"""Sessions of the agent in the databases, closed ones included.

Every statement on objects of the application (tables, views, defaults, casts) runs in a session of
the application's role. So a function planted there runs with that role's rights only. The agent's
own session reads only the catalogue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from ncen_updater.agent.adapters.databases.base import (
    CandidateDatabase,
    ChangeRef,
    DatabaseRef,
    LiveDatabase,
)
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.adapters.databases.postgresql.catalogue import physical_name
from ncen_updater.agent.adapters.databases.postgresql.connect_grants import is_connect_revoked
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    fetch_rows,
    forbid_views,
    has_tables,
    is_usable,
    quote_identifier,
    set_timeouts,
    translate_errors,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    alter_and_renew,
    mark_opened,
)
from ncen_updater.agent.adapters.databases.postgresql.inspection import begin_read_only
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError

logger = logging.getLogger(__name__)

# ---- active sessions -----------------------------------------------------------------------------

# Matches role and database, too: the pid may belong to another session by now. Does not match the
# application name, since a migration could change it.
_TERMINATE = (
    "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a"
    " JOIN unnest(%s::int[], %s::text[], %s::text[]) AS ours(pid, role, database)"
    " ON a.pid = ours.pid AND a.usename = ours.role AND a.datname = ours.database"
    # A session that has just been given back may be the one that asks.
    " WHERE a.pid <> pg_backend_pid()"
)


class ActiveSessions:
    """Sessions of tasks that run in parallel.

    The server completely rolls back the unfinished work of a terminated session, CREATE DATABASE
    included.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._sessions: dict[int, Connection] | None = None
        self._ended = False

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        """Track sessions for a block; outside of one, no session is tracked or terminated."""
        with self._lock:
            self._sessions, self._ended = {}, False
        try:
            yield
        finally:
            with self._lock:
                self._sessions, self._ended = None, False

    def add(self, connection: Connection) -> None:
        """Track a session.

        Raises:
            DatabaseError: If the sessions are being terminated: no new work may begin.
        """
        with self._lock:
            if self._ended:
                raise DatabaseError(database=connection.info.dbname, detail="ended")
            if self._sessions is not None:
                self._sessions[connection.info.backend_pid] = connection

    @contextlib.contextmanager
    def lend(self, connection: Connection) -> Iterator[Connection]:
        """Track a session for a block only, since others use it afterwards.

        Raises:
            DatabaseError: As for :meth:`add`.
        """
        process = connection.info.backend_pid
        self.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                (self._sessions or {}).pop(process, None)

    def terminate_all(self) -> None:
        """Terminate every tracked session, and refuse new ones."""
        with self._lock:
            self._ended = self._sessions is not None
            known = self._sessions or {}
            sessions = [
                (pid, item.info.user, item.info.dbname)
                for pid, item in known.items()
                if not item.closed
            ]
        if not sessions:
            return
        try:
            with self._server.open_control_session() as outside:
                execute(
                    outside, _TERMINATE, [list(column) for column in zip(*sessions, strict=True)]
                )
        except DatabaseError as error:
            # The caller repeats this until they have ended; a lost server has ended them as well.
            logger.warning("sessions could not be ended: %s", error.detail or error)


# ---- maintenance sessions in closed databases ----------------------------------------------------

# The agent's own sessions as the application's role in closed live databases count the rows written
# since the cut-over, before a revert. A session of another role than the agent's counts as foreign,
# and a database to which it wrote goes into quarantine on a revert. Sessions that log in as the
# application's role look like the application's own, so each of them is recorded: by its pid and
# its start time, which, unlike the application name, no session can choose. This also identifies a
# dead agent's session that is still working in the server.

_RECORD_SESSION = (
    "INSERT INTO public.visits SELECT pid, backend_start, datname FROM pg_stat_activity"
    " WHERE pid = %s AND backend_start IS NOT NULL ON CONFLICT DO NOTHING"
)
_FOREIGN_SESSIONS_QUERY = (
    "SELECT DISTINCT datname FROM pg_stat_activity a WHERE datname = ANY(%s)"
    " AND pid <> pg_backend_pid() AND usename <> current_user"
)
_NOT_OURS = (
    " AND NOT EXISTS (SELECT FROM public.visits v"
    " WHERE v.process = a.pid AND v.started = a.backend_start)"
)


def record_maintenance_session(connection: Connection, process: int) -> None:
    """Record one of the agent's own sessions; asynchronously, since a server crash ends it anyway.

    Args:
        connection: A session in the control database.
        process: Pid of the session in the server.
    """
    if not has_tables(connection, "visits"):
        return
    with connection.transaction():
        execute(connection, "SET LOCAL synchronous_commit = off")
        execute(connection, _RECORD_SESSION, [process])


def flag_foreign_sessions(connection: Connection, databases: Sequence[str]) -> None:
    """Record closed databases with foreign sessions as opened by somebody."""
    if not databases:
        return
    known = has_tables(connection, "visits")
    found = fetch_rows(
        connection, _FOREIGN_SESSIONS_QUERY + (_NOT_OURS if known else ""), [list(databases)]
    )
    mark_opened(connection, [name for (name,) in found])


def forget_maintenance_sessions(connection: Connection, databases: Sequence[str]) -> None:
    """Delete the records of the agent's sessions in these databases, which have ended."""
    if has_tables(connection, "visits"):
        execute(connection, "DELETE FROM public.visits WHERE database = ANY(%s)", [list(databases)])


# ---- entering closed databases -------------------------------------------------------------------

# Name, whether the database is open, its number of sessions, whether the agent is a superuser, and
# whether the application's role may connect: NULL if there is no such role.
_ACCESS_QUERY = """
SELECT datname, datallowconn,
  (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.usesysid IS NOT NULL),
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  has_database_privilege((SELECT oid FROM pg_roles WHERE rolname = %s), d.oid, 'CONNECT')
FROM pg_database d WHERE datname = ANY(%s) ORDER BY datname
"""


class MaintenanceSessions:
    """Maintenance sessions: the agent's sessions in closed databases, which stay closed to others.

    A database with ALLOW_CONNECTIONS false refuses even superusers, so it is opened for the moment
    in which the agent's session begins. Candidates and previous databases have names that no
    program knows. A live database whose rows are counted before a revert also gets a connection
    limit for that moment, and every session that slipped in is terminated. If the session logs in
    as the application's role, the limit leaves room for just this one.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        # One lock for each database, since several are used in parallel.
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def open_session(
        self,
        database: str,
        *,
        limit_connections: bool,
        purpose: str = "",
        statement_s: float | None = None,
        as_owner: bool = False,
    ) -> Connection:
        """Open a session in a database that may be closed; the caller closes the session.

        Args:
            database: Physical name.
            limit_connections: Limit the connections while the database is open.
            purpose: As for :meth:`Server.open_session`.
            statement_s: As for :meth:`Server.open_session`.
            as_owner: As for :meth:`Server.open_session`.
        """
        other_role = as_owner and self._server.has_owner_login is not False
        with contextlib.ExitStack() as undo:
            opened = self.keep_open(
                database, limit_connections=limit_connections, other_role=other_role
            )
            with self._locks[database], opened as outside:
                recording = outside if limit_connections and other_role else None
                try:
                    connection = self._server.open_session(
                        database, purpose=purpose, statement_s=statement_s, as_owner=as_owner
                    )
                except DatabaseUnreachableError:
                    if recording is not None:  # a foreign session may have taken the only free slot
                        mark_opened(recording, [database])
                    raise
                undo.callback(connection.close)
                if recording is not None:
                    record_maintenance_session(recording, connection.info.backend_pid)
                    flag_foreign_sessions(recording, [database])
            # Only after the limit is restored; if that fails, the session is closed too.
            undo.pop_all()
            return connection

    def is_owner_connect_revoked(self, database: str) -> bool:
        """Tell whether a change revoked CONNECT of the application's role, not an administrator."""
        with self._server.open_control_session() as outside:
            admitted = self._can_connect(outside, database, self._server.settings.owner)
            return not admitted and is_connect_revoked(outside, database)

    @contextlib.contextmanager
    def grant_owner_connect(self, database: str) -> Iterator[None]:
        """Grant the application's role CONNECT to an open database, for a block.

        Between cut-over and commit the application may log in as other roles.
        """
        owner = self._server.settings.owner
        right = f"CONNECT ON DATABASE {quote_identifier(database)}"
        with self._server.open_control_session() as outside:
            execute(outside, f"GRANT {right} TO {quote_identifier(owner)}")
            try:
                yield
            finally:
                execute(outside, f"REVOKE {right} FROM {quote_identifier(owner)}")

    @contextlib.contextmanager
    def keep_open(
        self, *databases: str, limit_connections: bool, other_role: bool = False
    ) -> Iterator[Connection | None]:
        """Keep closed databases open for a block, then close them again.

        Args:
            databases: Physical names.
            limit_connections: Limit the connections meanwhile: to one more, or to the agent's own.
            other_role: Whether a role other than the agent's must be able to connect.

        Yields:
            The session that opened them; None if all were open already.
        """
        with self._server.open_control_session() as outside:
            owner = self._server.settings.owner
            opening: list[str] = []
            closing: list[str] = []
            closed: list[str] = []
            for database, allowed, sessions, superuser, admitted in fetch_rows(
                outside, _ACCESS_QUERY, [owner, list(databases)]
            ):
                if allowed:
                    continue
                closed.append(database)
                alter = f"ALTER DATABASE {quote_identifier(database)}"
                if limit_connections:
                    # A limit of 0 admits only superusers; any other agent needs room for itself.
                    limit = sessions + 1 if other_role else 0 if superuser else 8
                    opening.append(f"{alter} CONNECTION LIMIT {limit}")
                # Between cut-over and commit the application may log in as other roles.
                admit = other_role and not admitted
                right = f"CONNECT ON DATABASE {quote_identifier(database)}"
                if admit:
                    opening.append(f"GRANT {right} TO {quote_identifier(owner)}")
                opening.append(f"{alter} ALLOW_CONNECTIONS true")
                closing.append(f"{alter} ALLOW_CONNECTIONS false")
                if admit:
                    closing.append(f"REVOKE {right} FROM {quote_identifier(owner)}")
            if not closed:
                yield None
                return
            alter_and_renew(self._server, outside, closed, opening)
            try:
                yield outside
            finally:
                alter_and_renew(self._server, outside, closed, closing)

    @staticmethod
    def _can_connect(outside: Connection, database: str, role: str) -> bool:
        question = "SELECT has_database_privilege(%s, %s, 'CONNECT')"
        return fetch_rows(outside, question, [role, database]) == [(True,)]


# SET ROLE does not apply the role's own settings, but its SQL was written for this search path.
_SEARCH_PATH = """
SELECT split_part(c, '=', 2) FROM pg_db_role_setting s, unnest(s.setconfig) c
WHERE c LIKE 'search\\_path=%%'
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = %s))
ORDER BY (s.setrole <> 0 AND s.setdatabase <> 0) DESC, s.setrole <> 0 DESC LIMIT 1
"""


class DatabaseSessions:
    """Sessions in live, candidate and previous databases.

    Args:
        server: The server.
        names: Logical to physical names.
    """

    def __init__(self, server: Server, names: Mapping[str, str]) -> None:
        self._server = server
        self._maintenance = MaintenanceSessions(server)
        self._names = names
        self._entered = set[str]()
        self.active = ActiveSessions(server)
        self._entering = threading.Lock()
        self._held: dict[tuple[str, bool], Connection] | None = None
        self._spare: dict[str, Connection] | None = None
        self._locks: defaultdict[tuple[str, bool], threading.Lock] = defaultdict(threading.Lock)

    def physical_name(self, database_ref: DatabaseRef) -> str:
        """Return the name of a database in the server."""
        return physical_name(database_ref, self._names[database_ref.name])

    def open_session(
        self,
        database_ref: DatabaseRef,
        *,
        statement_s: float | None = None,
        fenced: bool = False,
        as_owner: bool = True,
    ) -> Connection:
        """Open a session of the application's role in autocommit mode; the caller closes it.

        Args:
            database_ref: The database; a live one must be open, unless ``fenced`` is set.
            statement_s: As for :meth:`Server.open_session`.
            fenced: Enter a live database that is closed.
            as_owner: False only for :meth:`open_catalogue_session`.
        """
        database = self.physical_name(database_ref)
        if isinstance(database_ref, LiveDatabase) and not fenced:
            connection = self._open_live(database, as_owner=as_owner, statement_s=statement_s)
        else:
            connection = self._maintenance.open_session(
                database,
                limit_connections=fenced,
                purpose="" if isinstance(database_ref, LiveDatabase) else database_ref.change.id,
                statement_s=statement_s,
                as_owner=as_owner,
            )
        return self._accept(connection, database, as_owner=as_owner)

    def _accept(self, connection: Connection, database: str, *, as_owner: bool) -> Connection:
        try:
            self.active.add(connection)
            if as_owner and not self._server.has_owner_login:
                self._apply_search_path(connection, database)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_live(self, database: str, *, as_owner: bool, statement_s: float | None) -> Connection:
        try:
            return self._server.open_session(database, statement_s=statement_s, as_owner=as_owner)
        except DatabaseUnreachableError:
            if not as_owner or not self._maintenance.is_owner_connect_revoked(database):
                raise
        with self._maintenance.grant_owner_connect(database):
            return self._server.open_session(database, statement_s=statement_s, as_owner=True)

    @contextlib.contextmanager
    def open_count_session(
        self, database_ref: DatabaseRef, *, statement_s: float, fenced: bool = False
    ) -> Iterator[Connection]:
        """Open a session of the application's role for a block that counts rows of tables."""
        connection = self.open_session(database_ref, statement_s=statement_s, fenced=fenced)
        with contextlib.closing(connection), translate_errors(self.physical_name(database_ref)):
            forbid_views(connection)
            begin_read_only(connection)
            yield connection

    def open_catalogue_session(
        self, database_ref: DatabaseRef
    ) -> contextlib.AbstractContextManager[Connection]:
        """Open a session of the agent's own role for a block that reads only the catalogue."""
        return self._session(database_ref, as_owner=False)

    def open_session_block(
        self, database_ref: DatabaseRef, *, statement_s: float | None = None
    ) -> contextlib.AbstractContextManager[Connection]:
        """Open a session of the application's role for a block; see :meth:`_session`."""
        return self._session(database_ref, as_owner=True, statement_s=statement_s)

    @contextlib.contextmanager
    def _session(
        self, database_ref: DatabaseRef, *, as_owner: bool, statement_s: float | None = None
    ) -> Iterator[Connection]:
        """Open a session for a block; the driver's errors are translated.

        In a block of :meth:`hold_sessions`, a candidate has one session for each role; a
        transaction left open in it is rolled back.
        """
        if isinstance(database_ref, CandidateDatabase) and self._held is not None:
            with self._held_session(database_ref, as_owner, statement_s) as connection:
                yield connection
            return
        connection = self.open_session(database_ref, as_owner=as_owner, statement_s=statement_s)
        with contextlib.closing(connection), translate_errors(self.physical_name(database_ref)):
            yield connection

    @contextlib.contextmanager
    def hold_sessions(self, *, migrating: bool = False) -> Iterator[None]:
        """Keep the sessions in candidates open for a block, from one use to the next.

        Entering a closed database takes longer than most queries.

        Args:
            migrating: Whether candidates are migrated in the block: then all are entered together,
                each by the session of its migrations, too.
        """
        if self._held is not None:
            yield
            return
        self._held, self._spare = {}, {} if migrating else None
        self._entered = set[str]()
        try:
            with self.active.track():
                yield
        finally:
            held, spare = self._held, self._spare or {}
            self._held = self._spare = None
            for connection in (*held.values(), *spare.values()):
                connection.close()

    def open_migration_session(self, candidate: CandidateDatabase) -> Connection:
        """Open the session for a candidate's migrations; it has not been used before."""
        database = self.physical_name(candidate)
        spare = (self._spare or {}).pop(database, None)
        if spare is not None and is_usable(spare):
            return spare
        return self.open_session(candidate)

    def list_backend_pids(self, connection: Connection) -> list[int]:
        """Return the pids of a session and of the held sessions in the server."""
        held = [*(self._held or {}).values(), *(self._spare or {}).values()]
        return [item.info.backend_pid for item in (connection, *held) if not item.closed]

    @contextlib.contextmanager
    def _held_session(
        self, database_ref: CandidateDatabase, as_owner: bool, statement_s: float | None
    ) -> Iterator[Connection]:
        held = self._held
        assert held is not None  # noqa: S101 - looked at by the caller
        database = self.physical_name(database_ref)
        key = (database, as_owner)
        with self._locks[key]:
            connection = held.get(key)
            if connection is None or connection.closed:
                connection = held[key] = self._open_held(database_ref, as_owner=as_owner)
            with translate_errors(database):
                limits = self._server.timeouts
                set_timeouts(
                    connection,
                    limits.statement_s if statement_s is None else statement_s,
                    limits.lock_s,
                )
                try:
                    yield connection
                finally:
                    connection.prepare_threshold = None
                    if not connection.closed:
                        # This also discards prepared statements: a migration may change the tables
                        # they use.
                        connection.rollback()

    def _open_held(self, database_ref: CandidateDatabase, *, as_owner: bool) -> Connection:
        if not as_owner or self._spare is None:
            return self.open_session(database_ref, as_owner=as_owner)
        database, change = self.physical_name(database_ref), database_ref.change
        with self._entering:  # the first one enters them all
            if database not in self._entered:
                names = [self.physical_name(change.get_candidate(name)) for name in self._names]
                self._entered.update(names)
                with self._maintenance.keep_open(*names, limit_connections=False, other_role=True):
                    run_in_parallel(
                        {name: partial(self._enter, name, change.id) for name in names},
                        cancel=self.active.terminate_all,
                    )
        entered = (self._held or {}).get((database, True))
        if entered is None or entered.closed:  # ended since, or by the failure of another one
            return self.open_session(database_ref, as_owner=True)
        return entered

    def _enter(self, database: str, purpose: str) -> None:
        # Stored at once, so that each is closed even if the next login fails.
        held, spare = self._held, self._spare
        assert held is not None and spare is not None  # noqa: S101 - looked at by the caller
        spare[database] = self._log_in(database, purpose)
        held[database, True] = self._log_in(database, purpose)

    def _log_in(self, database: str, purpose: str) -> Connection:
        connection = self._server.open_session(database, purpose=purpose, as_owner=True)
        return self._accept(connection, database, as_owner=True)

    @contextlib.contextmanager
    def open_candidates(self, change: ChangeRef, *, owner: bool = False) -> Iterator[None]:
        """Keep every candidate open for an external program that opens its own sessions.

        Args:
            change: The change that owns the candidates.
            owner: Whether the program logs in as the owner of the databases.
        """
        with contextlib.ExitStack() as stack:
            names = [self.physical_name(change.get_candidate(name)) for name in self._names]
            stack.enter_context(
                self._maintenance.keep_open(*names, limit_connections=False, other_role=owner)
            )
            yield

    def _apply_search_path(self, connection: Connection, database: str) -> None:
        # An error here must not be ignored: a migration could use other tables than it was written
        # for.
        with translate_errors(database):
            for (path,) in fetch_rows(connection, _SEARCH_PATH, [self._server.settings.owner]):
                execute(connection, "SELECT set_config('search_path', %s, false)", [path])
