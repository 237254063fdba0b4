"""Migrations of the candidates, by files or by the application's own program."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ncen_updater.databases.base import (
    AppliedMigration,
    ChangeRef,
    Direction,
    Marker,
    MigrationPlan,
    MigrationSet,
    Role,
    SqlMigration,
    Strategy,
)
from ncen_updater.databases.errors import DatabaseError
from ncen_updater.databases.migrations.dialect import PostgresDialect
from ncen_updater.databases.migrations.ledger import OWN_SCHEMA
from ncen_updater.databases.migrations.planner import plan_set
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
from ncen_updater.i18n import N_, Text
from ncen_updater.progress import Progress

__all__ = ["Migrating"]

logger = logging.getLogger(__name__)

#: Rows that were written to each table, and its file; with the tables of large objects.
_WRITES = """
SELECT s.schemaname, s.relname, s.n_tup_ins, s.n_tup_upd, s.n_tup_del,
  pg_relation_filenode(s.relid)
FROM pg_stat_all_tables s
WHERE (s.schemaname NOT LIKE 'pg\\_%%' AND s.schemaname NOT IN ('information_schema', %s))
  OR s.relid IN ('pg_largeobject'::regclass, 'pg_largeobject_metadata'::regclass)
ORDER BY 1, 2
"""
#: Sessions of a program that has ended; the server counts what they wrote when they are gone.
_STILL_THERE = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND coalesce(backend_type, 'client backend') = 'client backend'
"""
_GONE_S, _LOOK_S = 5.0, 0.01


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

        def connect() -> object:
            connection = self._sessions.open(role, name, change, as_owner=True)
            connection.autocommit = False
            return connection

        return Runner(PostgresDialect(connect), name).applied()  # type: ignore[arg-type]

    def state(self, name: str) -> Marker | None:
        """Return what lies in a live database of release, generation and change."""
        return self._live(name).state()

    def take_as(self, change: ChangeRef, target: MigrationSet) -> None:
        """Mark the live databases as those of a release, with a ledger where they have none."""
        self.baseline(change, target)
        for name in self._names:
            self._live(name).mark(change)

    def _live(self, name: str) -> Runner:
        nobody = ChangeRef("", 0, Strategy.COPY, "")  # the name of a live database needs no change

        def connect() -> Connection:
            connection = self._sessions.open(Role.LIVE, name, nobody, as_owner=True)
            connection.autocommit = False
            return connection

        return Runner(PostgresDialect(connect), name)

    def plan(
        self,
        role: Role,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
    ) -> MigrationPlan:
        """See :meth:`DatabaseEngine.plan_migrations`."""
        by_files = target.command is None
        ledgers = {n: self.applied(role, n, change) for n in self._names} if by_files else {}
        return plan_set(tuple(self._names), ledgers, target, origin)

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
        progress: Progress,
    ) -> bool:
        """Migrate every candidate, mark it, and analyze it; returns whether rows may differ."""
        self._anchor_candidates(change)
        wrote = False
        if target.command is not None:
            before = self._writes(change)
            self._run_command(change, target, progress)
            wrote = before is None or self._writes(change) != before
        for name in self._names:
            runner = self._runner(name, change)
            if target.command is None:
                old = origin.databases.get(name, ()) if origin else None
                ran = runner.migrate(change, target.databases.get(name, ()), old, progress)
                wrote = wrote or bool(ran.steps)
            else:
                runner.mark(change)
        progress.tell(Text(N_("updating the statistics of the databases")))
        # Officers are out meanwhile: side by side it takes as long as the largest one.
        with ThreadPoolExecutor(max_workers=max(1, len(self._names))) as pool:
            for done in [pool.submit(self._analyze, name, change) for name in self._names]:
                done.result()
        return wrote

    def mark(self, change: ChangeRef) -> None:
        """Mark every candidate; its statistics came with the copy."""
        self._anchor_candidates(change)
        for name in self._names:
            self._runner(name, change).mark(change)

    def _anchor_candidates(self, change: ChangeRef) -> None:
        for name in self._names:
            with self._sessions.session(Role.CANDIDATE, name, change, as_owner=True) as connection:
                mend_ledger(connection)
                anchor(connection)

    def _writes(self, change: ChangeRef) -> dict[str, list[tuple[object, ...]]] | None:
        """Say what was written to each table so far; None where that cannot be known.

        The server counts rows for itself, so that nothing has to be read while officers are out. A
        table that was emptied or rewritten as a whole has another file.
        """
        found: dict[str, list[tuple[object, ...]]] = {}
        for name in self._names:
            with self._sessions.session(Role.CANDIDATE, name, change) as connection:
                if rows(connection, "SHOW track_counts") != [("on",)]:
                    return None
                until = time.monotonic() + _GONE_S
                while rows(connection, _STILL_THERE) != [(0,)]:
                    if time.monotonic() > until:
                        return None
                    time.sleep(_LOOK_S)
                found[name] = rows(connection, _WRITES, [OWN_SCHEMA])
        return found

    def anchor_kept(self, change: ChangeRef) -> None:
        """Make the sequences of copies durable that may have to be live again."""
        for name in self._names:
            with self._sessions.session(Role.PREVIOUS, name, change, as_owner=True) as connection:
                anchor(connection)

    def _analyze(self, name: str, change: ChangeRef) -> None:
        with self._sessions.session(
            Role.CANDIDATE, name, change, statement_s=self._server.limits.long_s
        ) as connection:
            # A copy begins without counters, so autovacuum would not do it soon.
            run(connection, "ANALYZE")

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

    def _runner(self, name: str, change: ChangeRef) -> Runner:
        return Runner(
            PostgresDialect(
                lambda: self._sessions.connect_for_migrations(name, change), self._end_session
            ),
            name,
        )

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
