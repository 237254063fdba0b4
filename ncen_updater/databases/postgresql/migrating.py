"""Migrations of the candidates, by files or by the application's own program."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from ncen_updater.databases.base import (
    AppliedMigration,
    ChangeRef,
    Direction,
    MigrationPlan,
    MigrationSet,
    Role,
    SqlMigration,
)
from ncen_updater.databases.errors import DatabaseError
from ncen_updater.databases.migrations import ledger
from ncen_updater.databases.migrations.dialect import PostgresDialect
from ncen_updater.databases.migrations.planner import command_without_way_back, plan_steps
from ncen_updater.databases.migrations.runner import LOCK_MS, Runner, utc_now
from ncen_updater.databases.postgresql.connection import (
    Connection,
    Server,
    rows,
    run,
    translated,
)
from ncen_updater.databases.postgresql.sequences import anchor, mend_ledger
from ncen_updater.databases.postgresql.sessions import Sessions
from ncen_updater.databases.side_by_side import side_by_side
from ncen_updater.progress import Progress

__all__ = ["Migrating"]

logger = logging.getLogger(__name__)


class Migrating:
    """Plans and runs migrations of the set.

    Args:
        server: The server.
        sessions: Opens the databases.
        names: Logical to physical names.
        environment: Further variables of the application's own migrator.
    """

    def __init__(
        self,
        server: Server,
        sessions: Sessions,
        names: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        self._server = server
        self._sessions = sessions
        self._names = names

    def applied(self, role: Role, name: str, change: ChangeRef) -> tuple[AppliedMigration, ...]:
        """See :meth:`DatabaseEngine.applied`."""
        tables = PostgresDialect.tables
        with self._sessions.session(role, name, change, as_owner=True) as connection:
            if not rows(connection, tables.exists):
                return ()
            return ledger.applied_rows(rows(connection, tables.select))

    def plan(
        self,
        role: Role,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
    ) -> MigrationPlan:
        """See :meth:`DatabaseEngine.plan_migrations`."""
        command = command_without_way_back(tuple(self._names), target, origin)
        if target.command is not None:
            return MigrationPlan((), command)
        with self._sessions.held():
            applied = side_by_side(
                {name: partial(self.applied, role, name, change) for name in self._names},
                halt=self._sessions.at_work.end,
            )
        plans = [
            plan_steps(
                name,
                applied[name],
                target.databases.get(name, ()),
                origin.databases.get(name, ()) if origin else None,
            )
            for name in self._names
        ]
        return MigrationPlan(
            tuple(step for plan in plans for step in plan.steps),
            (*command, *(item for plan in plans for item in plan.irreversible)),
        )

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
        progress: Progress,
    ) -> None:
        """Migrate every candidate and mark it, each in a chain of its own."""
        with self._sessions.held():
            if target.command is not None:
                self._all(lambda name: self._make_ready(name, change))
                self._run_command(change, target, progress)
                self._all(lambda name: self._runner(name, change).mark(change))
                return

            with self._entered(change) as entered:

                def chain(name: str) -> None:
                    old = origin.databases.get(name, ()) if origin else None
                    new = target.databases.get(name, ())
                    runner = self._runner(name, change, entered.pop(name))
                    runner.migrate(change, new, old, progress)

                self._all(chain)

    @contextlib.contextmanager
    def _entered(self, change: ChangeRef) -> Iterator[dict[str, Connection]]:
        """Make every database ready, and open the session of its migrations.

        All of them before the first migration: to enter a database opens it for a moment, and a
        migration beside which a database was opened or closed is taken for the one who did it.
        """
        entered: dict[str, Connection] = {}

        def enter(name: str) -> None:
            self._make_ready(name, change)
            entered[name] = self._sessions.connect_for_migrations(name, change)

        try:
            self._all(enter)
            yield entered
        finally:
            for connection in entered.values():
                connection.close()

    def _all(self, act: Callable[[str], None]) -> None:
        """Do it to every database at once; a failure or a signal ends what the others do."""
        acts = {name: partial(act, name) for name in self._names}
        side_by_side(acts, halt=self._sessions.at_work.end)

    def _make_ready(self, name: str, change: ChangeRef) -> None:
        with self._sessions.session(Role.CANDIDATE, name, change, as_owner=True) as connection:
            mend_ledger(connection)
            anchor(connection)

    def anchor_kept(self, change: ChangeRef) -> None:
        """Make the sequences of copies durable that may have to be live again."""
        for name in self._names:
            with self._sessions.session(Role.PREVIOUS, name, change, as_owner=True) as connection:
                anchor(connection)

    def baseline(self, change: ChangeRef, target: MigrationSet) -> None:
        """Write the ledger of a release into live databases that have none."""
        for name in self._names:
            if self.applied(Role.LIVE, name, change):
                continue
            connection = self._sessions.open(Role.LIVE, name, change, as_owner=True)
            try:
                connection.autocommit = False
                with translated(name):
                    _write_baseline(connection, change, target.databases.get(name, ()))
            finally:
                connection.close()

    def _runner(self, name: str, change: ChangeRef, entered: Connection | None = None) -> Runner:
        first = [entered] if entered is not None else []

        def connect() -> Connection:
            if first:
                return first.pop()
            return self._sessions.connect_for_migrations(name, change)

        return Runner(PostgresDialect(connect, self._end_session), name)

    def _end_session(self, process: int) -> None:
        try:
            with self._server.facts() as connection:
                run(connection, "SELECT pg_terminate_backend(%s)", [process])
        except DatabaseError as error:
            # In a thread of its own: a server that is gone has ended the session as well.
            logger.warning("a migration outlived its time: %s", error.detail or error)

    def _run_command(self, change: ChangeRef, target: MigrationSet, progress: Progress) -> None:
        from ncen_updater.databases.migrations.command import migrator_environment, run_command

        if target.command is None:
            return
        environment = self._server.environment(migrator_environment(os.environ, self._environment))
        for name in self._names:
            url = self._server.url(self._sessions.physical(Role.CANDIDATE, name, change))
            environment[f"NCEN_DB_{name.upper().replace('-', '_')}_URL"] = url
        with self._sessions.opened(change):
            run_command(target.command, target.slot, environment, progress, tuple(self._names))


def _write_baseline(
    connection: Connection, change: ChangeRef, migrations: Sequence[SqlMigration]
) -> None:
    """Write ledger, Alembic's version and state in one transaction."""
    tables = PostgresDialect.tables
    PostgresDialect(lambda: connection).prepare(connection, LOCK_MS)
    for item in migrations:
        row = (
            item.migration.id,
            Direction.UP.value,
            item.up_sha256,
            change.release,
            change.id,
            utc_now(),
        )
        run(connection, tables.insert, row)
    version = f"{tables.version_schema}.{tables.version_table}"
    run(connection, f"DELETE FROM {version}")  # noqa: S608 - a constant
    for item in migrations[-1:]:
        run(connection, f"INSERT INTO {version} VALUES (%s)", [item.migration.id])  # noqa: S608
    run(connection, tables.upsert_state, (change.release, change.generation, change.id))
    connection.commit()
