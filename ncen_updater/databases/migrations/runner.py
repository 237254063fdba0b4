"""Runs a plan on one database: Alembic as the engine, everything around it the agent's own.

There is no ``alembic.ini``, no ``env.py`` and no directory of revisions: revisions are made in
memory from the plan, and Alembic walks them with one transaction each. In that transaction are the
file, its ``verify`` file, the ledger row and Alembic's version row, so that after a crash a
migration is there whole or not at all. Only a migration that says ``transactional = false`` runs
before its transaction; when the agent dies between the two it runs again, which its author has
promised to be harmless.

Files run through the driver's own cursor, since the layers above it give ``:name`` and ``%`` a
meaning of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ncen_updater.databases.base import (
    AppliedMigration,
    ChangeRef,
    Direction,
    Marker,
    MigrationPlan,
    PlannedMigration,
    SqlMigration,
)
from ncen_updater.databases.errors import DatabaseError, MigrationFailed, VerifyFailed
from ncen_updater.databases.migrations import ledger
from ncen_updater.databases.migrations.dialect import Dialect, StatementFailed
from ncen_updater.databases.migrations.planner import (
    Reason,
    effective,
    plan_steps,
    refused,
    without_way_down,
)
from ncen_updater.databases.migrations.statements import forbidden, split
from ncen_updater.i18n import N_, Text
from ncen_updater.progress import Progress

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ["HEARTBEAT_SECONDS", "Runner", "heartbeat", "utc_now"]

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0


def utc_now() -> str:
    """Return the time for a ledger row: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def heartbeat(
    tell: Callable[[float], None], interval_s: float = HEARTBEAT_SECONDS
) -> Iterator[None]:
    """Call ``tell`` with the seconds that have passed, every interval while the block runs."""
    over = threading.Event()
    began = time.monotonic()

    def beat() -> None:
        while not over.wait(interval_s):
            tell(time.monotonic() - began)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Runner:
    """Ledger, state and migrations of one database.

    Args:
        dialect: The engine's side; opens connections as the application's role.
        database: Logical name, for messages and the plan.
        now: Returns the time of a ledger row (UTC, ISO 8601).
        heartbeat_s: Seconds between two signs of life of a long migration.
    """

    def __init__(
        self,
        dialect: Dialect,
        database: str,
        now: Callable[[], str] = utc_now,
        heartbeat_s: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._dialect = dialect
        self._database = database
        self._now = now
        self._heartbeat_s = heartbeat_s

    def applied(self) -> tuple[AppliedMigration, ...]:
        """Return the ledger, oldest first; empty where there is none. Writes nothing."""
        with self._connected() as connection:
            return self._ledger(_driver(connection))

    def state(self) -> Marker | None:
        """Return release, generation and change of the state row. Writes nothing."""
        tables = self._dialect.tables
        with self._connected() as connection:
            driver = _driver(connection)
            if not driver.execute(tables.exists).fetchone():
                return None
            return ledger.marker(driver.execute(tables.select_state).fetchall())

    def mark(self, change: ChangeRef) -> None:
        """Write the state row: release, generation, change; makes the own tables if missing."""
        with self._connected() as connection:
            driver = _driver(connection)
            self._dialect.prepare(driver)
            connection.rollback()
            with connection.begin():
                values = (change.release, change.generation, change.id)
                _driver(connection).execute(self._dialect.tables.upsert_state, values)

    def migrate(
        self,
        change: ChangeRef,
        target: Sequence[SqlMigration],
        origin: Sequence[SqlMigration] | None,
        progress: Progress,
    ) -> MigrationPlan:
        """Plan from the ledger as it is now, run, and write the state row; returns what ran.

        Called again after a crash it goes on where the ledger ends.

        Raises:
            MigrationRefused: See :func:`~ncen_updater.databases.migrations.planner.plan_steps`.
            MigrationFailed: Something of it failed; what ran before stays.
        """
        plan = plan_steps(self._database, self.applied(), target, origin)
        migrations: dict[tuple[Direction, str], SqlMigration] = {}
        migrations.update({(Direction.DOWN, m.migration.id): m for m in origin or ()})
        migrations.update({(Direction.UP, m.migration.id): m for m in target})
        self.run(plan, migrations, change, progress)
        self.mark(change)
        return plan

    def run(
        self,
        plan: MigrationPlan,
        migrations: Mapping[tuple[Direction, str], SqlMigration],
        change: ChangeRef,
        progress: Progress,
    ) -> None:
        """Run a plan's steps of this database in order.

        Args:
            plan: As :func:`plan_steps` made it from this database's ledger.
            migrations: The migration behind each step, for its limits and ``verify`` file.
            change: Goes into the ledger.
            progress: Told of each migration, and every two seconds while one runs.

        Raises:
            MigrationRefused: The plan does not fit the ledger (any more), or has no way down.
            MigrationFailed: A file was changed since the plan, was refused by the server, ended its
                transaction, or ran out of time; ``detail`` names the line.
            VerifyFailed: The ``verify`` file found rows.
        """
        barred = without_way_down(plan)
        if barred:
            raise refused(self._database, Reason.NO_WAY_DOWN, barred[0][1])
        work = _Work(self._dialect, self._database, change, self._now)
        steps = [step for step in plan.steps if step.database == self._database]
        with self._connected() as connection:
            driver = _driver(connection)
            self._dialect.prepare(driver)
            stack = [row.id for row in effective(self._database, self._ledger(driver))]
            connection.rollback()
            _check_plan(self._database, stack, steps)
            if not steps:
                return
            revisions = _Revisions(stack, steps)

            def walk(heads: tuple[str, ...], _: object) -> Iterator[Any]:
                if heads != tuple(stack[-1:]):
                    at = heads[0] if heads else stack[-1]
                    raise refused(self._database, Reason.LEDGER_BROKEN, at)
                for number, step in enumerate(steps):
                    what = Text(
                        N_("{database}: migration {migration} {direction} ({number} of {total})"),
                        {
                            "database": self._database,
                            "migration": step.id,
                            "direction": step.direction.value,
                            "number": number + 1,
                            "total": len(steps),
                        },
                    )
                    progress.tell(what, number, len(steps))
                    with heartbeat(self._beat(step, progress), self._heartbeat_s):
                        work.begin(connection, step, migrations[step.direction, step.id])
                        # Alembic runs the step while this generator waits, so the heart goes on.
                        yield revisions.step(step, work.run)

            self._alembic(connection, walk, work)
        done = Text(N_("{database}: all migrations have run"), {"database": self._database})
        progress.tell(done, len(steps), len(steps))

    def _alembic(
        self,
        connection: sqlalchemy.Connection,
        walk: Callable[..., Iterator[Any]],
        work: _Work,
    ) -> None:
        from alembic.runtime.migration import MigrationContext
        from alembic.util import CommandError
        from sqlalchemy.exc import SQLAlchemyError

        context = MigrationContext.configure(
            connection,
            opts={
                "fn": walk,
                "transaction_per_migration": True,
                "transactional_ddl": True,
                "version_table": self._dialect.tables.version_table,
                "version_table_schema": self._dialect.tables.version_schema,
            },
        )
        try:
            # The outer "transaction" is an empty frame: each migration has its own.
            with context.begin_transaction():
                context.run_migrations()
        except (SQLAlchemyError, CommandError) as error:
            raise work.failed(str(error)) from error
        except Exception as error:
            if self._dialect.is_error(error):
                raise work.failed(str(error)) from error
            raise

    def _beat(self, step: PlannedMigration, progress: Progress) -> Callable[[float], None]:
        def tell(seconds: float) -> None:
            what = Text(
                N_("{database}: migration {migration} has been running for {seconds} s"),
                {"database": self._database, "migration": step.id, "seconds": round(seconds)},
            )
            progress.tell(what)

        return tell

    def _ledger(self, driver: Any) -> tuple[AppliedMigration, ...]:  # noqa: ANN401
        tables = self._dialect.tables
        if not driver.execute(tables.exists).fetchone():
            return ()
        return ledger.applied_rows(driver.execute(tables.select).fetchall())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlalchemy.Connection]:
        from sqlalchemy.exc import SQLAlchemyError

        engine = self._dialect.engine()
        try:
            with engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise DatabaseError(database=self._database, detail=str(error)) from error
        except Exception as error:
            if self._dialect.is_error(error):
                raise DatabaseError(database=self._database, detail=str(error)) from error
            raise
        finally:
            engine.dispose()


class _Work:
    """The content of one migration at a time, inside the transaction that Alembic holds."""

    def __init__(
        self, dialect: Dialect, database: str, change: ChangeRef, now: Callable[[], str]
    ) -> None:
        self._dialect = dialect
        self._database = database
        self._change = change
        self._now = now
        self._connection: Any = None
        self._step: PlannedMigration | None = None
        self._item: SqlMigration | None = None

    def failed(self, detail: str) -> MigrationFailed:
        """Return the error for the migration at hand."""
        migration = self._step.id if self._step else "-"
        return MigrationFailed(database=self._database, migration=migration, detail=detail)

    def begin(
        self, connection: sqlalchemy.Connection, step: PlannedMigration, item: SqlMigration
    ) -> None:
        """Take up a migration; one that refuses a transaction runs here, before it has one."""
        self._connection, self._step, self._item = connection, step, item
        self._check_digest(step)
        limits = item.migration
        statements = split(step.sql, self._dialect.kind)
        for statement in statements:
            word = forbidden(statement, transactional=limits.transactional)
            if word:
                raise self.failed(f"line {statement.line}: {word} is not allowed in a migration")
        if limits.transactional:
            return
        if len(statements) != 1:
            raise self.failed(f"{len(statements)} statements, where exactly one is allowed")
        connection.commit()
        try:
            self._dialect.run_alone(
                _driver(connection),
                statements[0],
                limits.lock_timeout_ms,
                limits.statement_timeout_ms,
            )
        except StatementFailed as error:
            raise self.failed(error.message) from error

    def run(self) -> None:
        """Run the file, look at the transaction, verify, write the ledger row."""
        step, item = self._step, self._item
        if step is None or item is None:
            raise self.failed("no migration was taken up")
        driver = _driver(self._connection)
        limits = item.migration
        self._dialect.limits(driver, limits.lock_timeout_ms, limits.statement_timeout_ms)
        if limits.transactional:
            before = self._dialect.transaction(driver)
            try:
                self._dialect.run_file(driver, step.sql, limits.statement_timeout_ms)
            except StatementFailed as error:
                raise self.failed(error.message) from error
            if before is None or self._dialect.transaction(driver) != before:
                raise self.failed("the file ended its own transaction")
        if step.direction is Direction.UP and item.verify is not None:
            self._verify(driver, item)
        row = (
            step.id,
            step.direction.value,
            step.sha256,
            self._change.release,
            self._change.id,
            self._now(),
        )
        driver.execute(self._dialect.tables.insert, row)
        log.info("migration ran", extra={"database": self._database, "migration": step.id})

    def _check_digest(self, step: PlannedMigration) -> None:
        try:
            content = step.path.read_bytes()
        except OSError as error:
            raise self.failed(str(error)) from error
        if hashlib.sha256(content).hexdigest() != step.sha256:
            raise self.failed(f"{step.path.name} is not the file that was planned")
        if content != step.sql.encode("utf-8"):
            raise self.failed(f"the plan does not hold the text of {step.path.name}")

    def _verify(self, driver: Any, item: SqlMigration) -> None:  # noqa: ANN401
        path = item.verify
        if path is None:
            return
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self.failed(str(error)) from error
        if item.verify_sha256 and hashlib.sha256(content).hexdigest() != item.verify_sha256:
            raise self.failed(f"{path.name} is not the file that was planned")
        for statement in split(content.decode("utf-8"), self._dialect.kind):
            try:
                count = self._dialect.count(driver, statement, item.migration.statement_timeout_ms)
            except StatementFailed as error:
                raise self.failed(f"{path.name}: {error.message}") from error
            if count:
                raise VerifyFailed(
                    database=self._database,
                    migration=item.migration.id,
                    count=count,
                    detail=f"{path.name}, line {statement.line}",
                )


class _Revisions:
    """Alembic's picture of a plan: revisions made in memory, one a migration."""

    def __init__(self, stack: Sequence[str], steps: Sequence[PlannedMigration]) -> None:
        from alembic.script.base import Script
        from alembic.script.revision import RevisionMap

        below: dict[str, str | None] = {}
        top: str | None = None
        for name in stack:
            below[name], top = top, name
        for step in steps:
            if step.direction is Direction.DOWN:
                top = below[step.id]
            else:
                below[step.id], top = top, step.id
        self._scripts: dict[str, Any] = {}
        for name, under in below.items():
            module = ModuleType(f"migration_{name}")
            module.__dict__["down_revision"] = under
            self._scripts[name] = Script(module, name, f"{name}.sql")
        self._map = RevisionMap(self._scripts.values)
        log.debug("heads: %s", self._map.heads)  # the map is made, and checked, when first asked

    def step(self, planned: PlannedMigration, run: Callable[[], None]) -> Any:  # noqa: ANN401
        """Return Alembic's step for a planned migration."""
        from alembic.runtime.migration import RevisionStep

        script = self._scripts[planned.id]
        going_up = planned.direction is Direction.UP
        script.module.upgrade = script.module.downgrade = run
        return RevisionStep(self._map, script, going_up)


def _check_plan(database: str, stack: Sequence[str], steps: Sequence[PlannedMigration]) -> None:
    standing = list(stack)
    for step in steps:
        if step.direction is Direction.DOWN:
            if standing[-1:] != [step.id]:
                raise refused(database, Reason.STALE_PLAN, step.id)
            standing.pop()
        elif step.id in standing:
            raise refused(database, Reason.STALE_PLAN, step.id)
        else:
            standing.append(step.id)


def _driver(connection: sqlalchemy.Connection) -> Any:  # noqa: ANN401 - drivers share no type
    """Return the driver's own connection, inside SQLAlchemy's current transaction."""
    connection.get_transaction() or connection.begin()
    return connection.connection.driver_connection
