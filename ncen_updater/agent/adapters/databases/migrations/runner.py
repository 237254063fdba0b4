"""Runs a plan on one database, with one transaction a migration.

In that transaction are the file, its ``verify`` file, the ledger row and the version row, so that
after a crash a migration is there whole or not at all. Only a migration that says ``transactional =
false`` runs before its transaction; when the agent dies between the two it runs again, which its
author has promised to be harmless.

Files run through the driver's own cursor, so that ``:name`` and ``%`` mean nothing in them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    Direction,
    Marker,
    MigrationPlan,
    PlannedMigration,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.dialect import Dialect
from ncen_updater.agent.adapters.databases.migrations.planner import (
    MigrationReason,
    effective,
    plan_steps,
    refused,
    without_way_down,
)
from ncen_updater.agent.adapters.databases.migrations.work import Work
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailed
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
# Waiting for a lock outside the migrations, whose authors say how long.
LOCK_MS = 5_000


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


class MigrationRunner:
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
        with self._connected() as driver:
            return self._ledger(driver)

    def state(self) -> Marker | None:
        """Return release, generation and change of the state row. Writes nothing."""
        tables = self._dialect.tables
        with self._connected() as driver:
            if not driver.execute(tables.exists).fetchone():
                return None
            return ledger.marker(driver.execute(tables.select_state).fetchall())

    def mark(self, change: ChangeRef) -> None:
        """Write the state row: release, generation, change; makes the own tables if missing."""
        with self._connected() as driver:
            self._dialect.prepare(driver, LOCK_MS)
            with self._dialect.transaction(driver):
                self._mark(driver, change)

    def unmark(self) -> None:
        """Take the state row away."""
        with self._connected() as driver:
            self._dialect.prepare(driver, LOCK_MS)
            with self._dialect.transaction(driver):
                driver.execute(self._dialect.tables.delete_state)

    def _mark(self, driver: Any, change: ChangeRef) -> None:  # noqa: ANN401
        values = (change.release, change.generation, change.id)
        driver.execute(self._dialect.tables.upsert_state, values)

    def baseline(
        self, change: ChangeRef, migrations: Sequence[SqlMigration], *, mark: bool = False
    ) -> None:
        """Say that migrations were applied before there was a ledger; nothing if there is one.

        One that this very change wrote alone is written anew: an adoption may be corrected.

        Args:
            change: Goes into the ledger.
            migrations: Those of the release that runs.
            mark: Whether the state row is written with it.
        """
        tables = self._dialect.tables
        with self._connected() as driver:
            if any(row.change != change.id for row in self._ledger(driver)):
                return
            self._dialect.prepare(driver, LOCK_MS)
            with self._dialect.transaction(driver):
                driver.execute(tables.forget, (change.id,))
                for item in migrations:
                    values = (item.migration.id, Direction.UP.value, item.up_sha256)
                    row = (*values, change.release, change.id, self._now())
                    driver.execute(tables.insert, row)
                for found in driver.execute(tables.select_version).fetchall():
                    driver.execute(tables.delete_version, found)
                for item in migrations[-1:]:
                    driver.execute(tables.insert_version, (item.migration.id,))
                if mark:
                    self._mark(driver, change)

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
            MigrationRefused: See :func:`.planner.plan_steps`.
            MigrationFailed: Something of it failed; what ran before stays.
            ServerLost: Server or disk failed below it.
        """
        migrations: dict[tuple[Direction, str], SqlMigration] = {}
        migrations.update({(Direction.DOWN, m.migration.id): m for m in origin or ()})
        migrations.update({(Direction.UP, m.migration.id): m for m in target})
        # One connection for all of it: to enter a database may take longer than its migrations.
        with self._connected() as driver:
            plan = plan_steps(self._database, self._ledger(driver), target, origin)
            self._run(driver, plan, migrations, change, progress)
            self._dialect.prepare(driver, LOCK_MS)
            with self._dialect.transaction(driver):
                self._mark(driver, change)
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
        with self._connected() as driver:
            self._run(driver, plan, migrations, change, progress)

    def _run(
        self,
        driver: Any,  # noqa: ANN401 - drivers share no type
        plan: MigrationPlan,
        migrations: Mapping[tuple[Direction, str], SqlMigration],
        change: ChangeRef,
        progress: Progress,
    ) -> None:
        barred = without_way_down(plan)
        if barred:
            raise refused(self._database, MigrationReason.NO_WAY_DOWN, barred[0][1])
        steps = [step for step in plan.steps if step.database == self._database]
        first = steps[0] if steps else None
        item = migrations[first.direction, first.id] if first else None
        lock_ms = item.migration.lock_timeout_ms if item else LOCK_MS
        with self._failing(driver, first.id if first else "-"):
            self._dialect.prepare(driver, lock_ms)
            rows = self._ledger(driver)
            heads = [row[0] for row in driver.execute(self._dialect.tables.select_version)]
        stack = [row.id for row in effective(self._database, rows)]
        versions = _versions(self._database, stack, steps)
        if not steps:
            return
        if heads != stack[-1:]:
            at = str(heads[0]) if heads else stack[-1]
            raise refused(self._database, MigrationReason.LEDGER_BROKEN, at)
        work = Work(self._dialect, driver, self._database, change, self._now)
        for number, step in enumerate(steps):
            values = {
                "database": self._database, "migration": step.id, "number": number + 1,
                "total": len(steps),
            }  # fmt: skip
            # Whole sentences: a word that crosses to the service on its own is translated nowhere.
            words = (
                N_("{database}: migration {migration} ({number} of {total})")
                if step.direction is Direction.UP
                else N_("{database}: way back of migration {migration} ({number} of {total})")
            )
            progress.tell(Text(words, values), number, len(steps))
            item = migrations[step.direction, step.id]
            with heartbeat(self._beat(step, progress), self._heartbeat_s):
                work.run(step, item, *versions[number : number + 2])
        done = Text(N_("{database}: all migrations have run"), {"database": self._database})
        progress.tell(done, len(steps), len(steps))

    def _beat(self, step: PlannedMigration, progress: Progress) -> Callable[[float], None]:
        def tell(seconds: float) -> None:
            what = Text(
                N_("{database}: migration {migration} has been running for {seconds} s"),
                {"database": self._database, "migration": step.id, "seconds": round(seconds)},
            )
            progress.tell(what)

        return tell

    @contextlib.contextmanager
    def _failing(self, driver: Any, migration: str) -> Iterator[None]:  # noqa: ANN401
        """What the driver refuses inside is the failure of a migration, or of what is below it."""
        try:
            yield
        except self._dialect.error as error:
            detail = self._dialect.explain(error)
            fault = self._dialect.fault(driver, error)
            if fault is not None:
                raise DatabaseError(
                    fault, database=self._database, migration=migration, detail=detail
                ) from error
            raise MigrationFailed(
                database=self._database, migration=migration, detail=detail
            ) from error

    def _ledger(self, driver: Any) -> tuple[AppliedMigration, ...]:  # noqa: ANN401
        tables = self._dialect.tables
        if not driver.execute(tables.exists).fetchone():
            return ()
        return ledger.applied_rows(driver.execute(tables.select).fetchall())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            with contextlib.closing(self._dialect.connect()) as driver:
                yield driver
        except self._dialect.error as error:
            detail = self._dialect.explain(error)
            raise DatabaseError(database=self._database, detail=detail) from error


def _versions(
    database: str, stack: Sequence[str], steps: Sequence[PlannedMigration]
) -> list[str | None]:
    """Return the newest migration before the first step, and after each of them.

    Raises:
        MigrationRefused: The plan was made from another ledger.
    """
    standing = list(stack)
    versions = [standing[-1] if standing else None]
    for step in steps:
        if step.direction is Direction.DOWN:
            if standing[-1:] != [step.id]:
                raise refused(database, MigrationReason.STALE_PLAN, step.id)
            standing.pop()
        elif step.id in standing:
            raise refused(database, MigrationReason.STALE_PLAN, step.id)
        else:
            standing.append(step.id)
        versions.append(standing[-1] if standing else None)
    return versions
