"""Migrations of the candidates, by files or by the application's migrator; online programs."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import psycopg

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    DatabaseMarker,
    DatabaseRef,
    DatabaseSelector,
    LiveDatabase,
    MigrationPlan,
    MigrationSet,
    MigratorUser,
)
from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.ledger import AGENT_SCHEMA
from ncen_updater.agent.adapters.databases.migrations.planner import plan_site_migrations
from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    fetch_rows,
)
from ncen_updater.agent.adapters.databases.postgresql.dialect import PostgresDialect
from ncen_updater.agent.adapters.databases.postgresql.sessions import DatabaseSessions
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.manifest import DatabaseProgram

logger = logging.getLogger(__name__)


# ---- sequences -----------------------------------------------------------------------------------

# Sequences must return no number twice, in copies and in the agent's own ledger. The server logs a
# sequence ahead of its use, 32 values at a time, and stores the number of remaining values in the
# sequence. A copy by WAL_LOG takes over that number without the log records: after a crash its
# sequences would return values that are already in the tables. Setting a sequence to its present
# value writes it again. The agent may not set sequences of other roles.

_REWRITE_SEQUENCES = """
SELECT setval(found.oid::regclass, found.last, true)
FROM (SELECT own.seqrelid AS oid, pg_sequence_last_value(own.seqrelid) AS last
      FROM (SELECT seqrelid FROM pg_sequence
            WHERE has_sequence_privilege(seqrelid, 'SELECT')
              AND has_sequence_privilege(seqrelid, 'UPDATE') OFFSET 0) AS own
      OFFSET 0) AS found
WHERE found.last IS NOT NULL
"""
_ADVANCE_LEDGER_SEQUENCE = """
SELECT setval(found.numbers, found.newest, true)
FROM (SELECT pg_get_serial_sequence('ncen_updater.ledger', 'seq')::regclass AS numbers,
             max(seq) AS newest FROM ncen_updater.ledger OFFSET 0) AS found
WHERE found.newest > coalesce(pg_sequence_last_value(found.numbers), 0)
"""


def rewrite_sequences(connection: Connection) -> None:
    """Rewrite every sequence with its present value.

    Args:
        connection: In the copy, as the application's role, in autocommit mode.
    """
    execute(connection, _REWRITE_SEQUENCES)


def advance_ledger_sequence(connection: Connection) -> None:
    """Advance the ledger's sequence past its newest row.

    It is behind if the server crashed after somebody had copied the database without rewriting its
    sequences: then every later migration would fail on a duplicate number.

    Args:
        connection: In the database, as the application's role, in autocommit mode.
    """
    with contextlib.suppress(psycopg.errors.UndefinedTable):  # no ledger yet
        if fetch_rows(connection, _ADVANCE_LEDGER_SEQUENCE):
            logger.warning("the sequence of the ledger was behind its rows; corrected")


#: Write counters of each table, and its file; with the tables of large objects.
_WRITE_COUNTERS_QUERY = """
SELECT s.schemaname, s.relname, s.n_tup_ins, s.n_tup_upd, s.n_tup_del,
  pg_relation_filenode(s.relid)
FROM pg_stat_all_tables s
WHERE (s.schemaname NOT LIKE 'pg\\_%%' AND s.schemaname NOT IN ('information_schema', %s))
  OR s.relid IN ('pg_largeobject'::regclass, 'pg_largeobject_metadata'::regclass)
ORDER BY 1, 2
"""
#: Sessions of an ended program; the server adds their writes to the counters when they are gone.
_REMAINING_BACKENDS_QUERY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> ALL (%s)
  AND coalesce(backend_type, 'client backend') = 'client backend'
"""
_BACKENDS_GONE_S, _POLL_S = 5.0, 0.01
#: Application name of programs that work on live databases.
ONLINE_PROGRAM_NAME = "ncen-updater-migrator"
_ONLINE_BACKENDS_QUERY = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = ANY(%s)"
)
#: Lock time-out of a migration file that declares none.
_ONLINE_LOCK_TIMEOUT_MS = 5_000
#: The first server version that checks whether the client is still connected.
_CLIENT_CHECK_MIN_VERSION = 140_000


class CandidateMigrations:
    """Migrations of the databases of a site.

    Args:
        server: The server.
        sessions: Opens the databases.
        names: Logical to physical names.
        environment: Further variables of the application's own migrator.
        user: Returns the user as which the migrator runs; None if the agent is not root.
    """

    def __init__(
        self,
        server: Server,
        sessions: DatabaseSessions,
        names: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
        user: Callable[[], MigratorUser | None] = lambda: None,
    ) -> None:
        self._user = user
        self._environment = dict(environment or {})
        self._server = server
        self._sessions = sessions
        self._names = names

    def read_ledger(self, database: DatabaseRef) -> tuple[AppliedMigration, ...]:
        """See :meth:`DatabaseEngine.read_ledger`."""
        tables = PostgresDialect.ledger_tables
        with self._sessions.open_session_block(database) as connection:
            try:
                return ledger.parse_ledger_rows(fetch_rows(connection, tables.select_rows))
            except psycopg.errors.UndefinedTable:
                return ()

    def read_state(self, name: str) -> DatabaseMarker | None:
        """Return release, generation and change stored inside a live database."""
        return self._make_live_runner(name).read_state()

    def adopt_restored(self, change: ChangeRef, target: MigrationSet) -> None:
        """Mark the live databases as those of a release, with a ledger if they have none."""
        self.baseline_ledger(change, target)
        self.mark_live(change)

    def mark_live(self, change: ChangeRef) -> None:
        """Write release, generation and change into the live databases."""
        for name in self._names:
            self._make_live_runner(name).write_state(change)

    def _make_live_runner(self, name: str) -> MigrationRunner:
        def connect() -> Connection:
            return self._sessions.open_session(LiveDatabase(name))

        return MigrationRunner(PostgresDialect(connect), name)

    def plan_migrations(
        self, select: DatabaseSelector, target: MigrationSet, origin: MigrationSet | None
    ) -> MigrationPlan:
        """See :meth:`DatabaseEngine.plan_migrations`."""
        ledgers: dict[str, tuple[AppliedMigration, ...]] = {}
        if target.migrator is None:
            with self._sessions.hold_sessions():
                ledgers = run_in_parallel(
                    {name: partial(self.read_ledger, select(name)) for name in self._names},
                    cancel=self._sessions.active.terminate_all,
                )
        return plan_site_migrations(tuple(self._names), ledgers, target, origin)

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
        progress: ProgressListener,
    ) -> bool:
        """Migrate and mark every candidate, in parallel.

        Returns:
            Whether rows may differ from the copied ones.
        """
        wrote: dict[str, bool] = {}
        with self._sessions.hold_sessions():
            if target.migrator is not None:
                self._run_for_all(lambda name: self._prepare_candidate(name, change))
                before = self._read_write_counters(change)
                with self._sessions.open_candidates(change, owner=self._logs_in_as_owner):
                    self._run_migrator(target.migrator, target.slot, change.get_candidate, progress)
                changed = before is None or self._read_write_counters(change) != before
                self._run_for_all(
                    lambda name: self._make_candidate_runner(name, change).write_state(change)
                )
                return changed

            with self._open_migration_sessions(change) as entered:

                def migrate_database(name: str) -> None:
                    old = origin.databases.get(name, ()) if origin else None
                    new = target.databases.get(name, ())
                    runner = self._make_candidate_runner(name, change, entered.pop(name))
                    wrote[name] = bool(runner.migrate(change, new, old, progress).steps)

                self._run_for_all(migrate_database)
        return any(wrote.values())

    def mark_candidates(self, change: ChangeRef) -> None:
        """Mark every candidate; its statistics were copied with it."""

        def mark_database(name: str) -> None:
            self._prepare_candidate(name, change)
            self._make_candidate_runner(name, change).write_state(change)

        with self._sessions.hold_sessions():
            self._run_for_all(mark_database)

    @contextlib.contextmanager
    def _open_migration_sessions(self, change: ChangeRef) -> Iterator[dict[str, Connection]]:
        """Prepare every candidate, and open the session of its migrations.

        All sessions are opened before the first migration, because entering a database opens it for
        a moment, and a migration during which a database is opened or closed would be blamed for
        that.
        """
        entered: dict[str, Connection] = {}

        def enter(name: str) -> None:
            self._prepare_candidate(name, change)
            entered[name] = self._sessions.open_migration_session(change.get_candidate(name))

        try:
            self._run_for_all(enter)
            yield entered
        finally:
            for connection in entered.values():
                connection.close()

    def _run_for_all(self, task: Callable[[str], None]) -> None:
        """Run a function for every database in parallel; one failure or a signal cancels all."""
        tasks = {name: partial(task, name) for name in self._names}
        run_in_parallel(tasks, cancel=self._sessions.active.terminate_all)

    def _prepare_candidate(self, name: str, change: ChangeRef) -> None:
        with self._sessions.open_session_block(change.get_candidate(name)) as connection:
            advance_ledger_sequence(connection)
            rewrite_sequences(connection)

    def _read_write_counters(self, change: ChangeRef) -> dict[str, list[tuple[object, ...]]] | None:
        """Read the server's write counters of each table; None if they are not reliable.

        The server counts rows itself, so no table has to be read in the downtime. A table that was
        truncated or rewritten as a whole has another file.
        """
        counters: dict[str, list[tuple[object, ...]]] = {}
        for name in self._names:
            with self._sessions.open_catalogue_session(change.get_candidate(name)) as connection:
                if fetch_rows(connection, "SHOW track_counts") != [("on",)]:
                    return None
                deadline = time.monotonic() + _BACKENDS_GONE_S
                while fetch_rows(
                    connection,
                    _REMAINING_BACKENDS_QUERY,
                    [self._sessions.list_backend_pids(connection)],
                ) != [(0,)]:
                    if time.monotonic() > deadline:
                        return None
                    time.sleep(_POLL_S)
                counters[name] = fetch_rows(connection, _WRITE_COUNTERS_QUERY, [AGENT_SCHEMA])
        return counters

    def baseline_ledger(self, change: ChangeRef, target: MigrationSet) -> None:
        """Write the ledger of a release into live databases that have none."""
        for name in self._names:
            self._make_live_runner(name).write_baseline(
                change, target.databases.get(name, ()), write_state=True
            )

    def _make_candidate_runner(
        self, name: str, change: ChangeRef, entered: Connection | None = None
    ) -> MigrationRunner:
        unused = [entered] if entered is not None else []

        def connect() -> Connection:
            if unused:
                return unused.pop()
            return self._sessions.open_session(change.get_candidate(name))

        return MigrationRunner(PostgresDialect(connect, self._terminate_backend), name)

    def _terminate_backend(self, process: int) -> None:
        try:
            with self._server.open_control_session() as connection:
                execute(connection, "SELECT pg_terminate_backend(%s)", [process])
        except DatabaseError as error:
            # Runs in its own thread; a lost server has ended the session as well.
            logger.warning("cannot end a migration past its time limit: %s", error.detail or error)

    def run_online_program(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: ProgressListener,
        change: ChangeRef | None,
        lock_fd: int,
    ) -> None:
        """See :meth:`DatabaseEngine.run_online_program`."""
        if change is None:
            self._run_migrator(
                program, slot, LiveDatabase, progress, lock_fd, self._build_online_options()
            )
            return
        with (
            self._sessions.hold_sessions(),
            self._sessions.open_candidates(change, owner=self._logs_in_as_owner),
        ):
            self._run_migrator(program, slot, change.get_candidate, progress, lock_fd)

    def _build_online_options(self) -> tuple[str, ...]:
        """Return the session settings of an online program: its name and a short lock time-out.

        Every session that waits for a lock blocks those behind it, users' sessions included.
        Without the connection check, the server would finish the statement of a killed program,
        perhaps hours later.
        """
        with self._server.open_control_session() as connection:
            version = connection.info.server_version
        connection_check = (
            ("client_connection_check_interval=1000",)
            if version >= _CLIENT_CHECK_MIN_VERSION
            else ()
        )
        return (
            f"application_name={ONLINE_PROGRAM_NAME}",
            f"lock_timeout={_ONLINE_LOCK_TIMEOUT_MS}",
            *connection_check,
        )

    def terminate_online_program(self) -> bool:
        """Terminate the remaining sessions of a program; return whether none is remaining."""
        live = [self._sessions.physical_name(LiveDatabase(name)) for name in self._names]
        with self._server.open_control_session() as connection:
            remaining = fetch_rows(connection, _ONLINE_BACKENDS_QUERY, [ONLINE_PROGRAM_NAME, live])
            for (process,) in remaining:
                execute(connection, "SELECT pg_terminate_backend(%s)", [process])
        return not remaining

    @property
    def _logs_in_as_owner(self) -> bool:
        """Return whether a program logs in as the application's role; its own user always does."""
        return self._user() is not None or bool(self._server.has_owner_login)

    def _run_migrator(
        self,
        program: DatabaseProgram,
        slot: Path,
        select: DatabaseSelector,
        progress: ProgressListener,
        lock_fd: int = -1,
        options: Sequence[str] = (),
    ) -> None:
        from ncen_updater.agent.adapters.databases.migrations.migrator import (
            build_database_variables,
            build_migrator_environment,
            run_migrator,
        )

        user = self._user()
        environment = build_migrator_environment(os.environ, self._environment, user)
        if user is None:
            environment = self._server.build_environment(environment)
        for name in self._names:
            # Another user has neither the agent's role nor its password.
            database = self._sessions.physical_name(select(name))
            address = self._server.build_address(
                database, as_owner=self._logs_in_as_owner, options=options
            )
            environment |= build_database_variables(name, address)
            configured = self._environment.get("PGOPTIONS", "")
            # For programs that use the parts of the address: otherwise the agent would own their
            # tables.
            environment["PGOPTIONS"] = f"{configured} {address['OPTIONS']}".strip()
        names = tuple(self._names)
        run_migrator(program, slot, environment, progress, names, user=user, lock_fd=lock_fd)
