"""Runner of a plan on one database, with one transaction for each migration.

The transaction contains the file, its ``verify`` file, the ledger row and the version row, so after
a crash a migration is applied completely or not at all. Only a migration with ``transactional =
false`` runs before its transaction; if the agent dies between the two it runs again, and its author
has declared that this is safe.

Files run through the driver's own cursor, so ``:name`` and ``%`` have no special meaning in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    DatabaseMarker,
    MigrationDirection,
    MigrationPlan,
    PlannedMigration,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.dialect import (
    MigrationDialect,
    StatementError,
)
from ncen_updater.agent.adapters.databases.migrations.planner import (
    MigrationReason,
    find_irreversible_downs,
    make_refusal,
    plan_database_migrations,
    reduce_ledger,
)
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailedError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    REFERENCES_BROKEN,
    VERIFY_FAILED,
    ErrorMessage,
)
from ncen_updater.common.progress import Amount, ProgressListener
from ncen_updater.formats.sql import check_migration_sql, check_verify_sql, split_statements

logger = logging.getLogger(__name__)
HEARTBEAT_S = 2.0
# Limit of the wait for a lock outside the migrations, which declare their own.
OWN_LOCK_TIMEOUT_MS = 5_000


def format_utc_now() -> str:
    """Return the current time for a ledger row: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def report_heartbeat(
    report: Callable[[float], None], interval_s: float = HEARTBEAT_S
) -> Iterator[None]:
    """Call ``report`` with the elapsed seconds, at every interval while the block runs."""
    ended = threading.Event()
    began = time.monotonic()

    def beat() -> None:
        while not ended.wait(interval_s):
            report(time.monotonic() - began)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class MigrationRunner:
    """Runner for ledger, state and migrations of one database.

    Args:
        dialect: Engine-specific part; opens connections as the application's role.
        database: Logical name, for messages and the plan.
        now: Returns the time of a ledger row (UTC, ISO 8601).
        heartbeat_s: Seconds between two progress reports of a long migration.
    """

    def __init__(
        self,
        dialect: MigrationDialect,
        database: str,
        now: Callable[[], str] = format_utc_now,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._dialect = dialect
        self._database = database
        self._now = now
        self._heartbeat_s = heartbeat_s

    def read_ledger(self) -> tuple[AppliedMigration, ...]:
        """Return the ledger, oldest row first; empty if there is none. Writes nothing."""
        with self._open_connection() as driver:
            return self._read_ledger(driver)

    def read_state(self) -> DatabaseMarker | None:
        """Return release, generation and change of the state row. Writes nothing."""
        tables = self._dialect.ledger_tables
        with self._open_connection() as driver:
            if not driver.execute(tables.exists).fetchone():
                return None
            return ledger.parse_state_row(driver.execute(tables.select_state).fetchall())

    def write_state(self, change: ChangeRef) -> None:
        """Write the state row (release, generation, change); create the tables if missing."""
        with self._open_connection() as driver:
            self._dialect.create_ledger_tables(driver, OWN_LOCK_TIMEOUT_MS)
            with self._dialect.open_transaction(driver):
                self._write_state(driver, change)

    def delete_state(self) -> None:
        """Delete the state row."""
        with self._open_connection() as driver:
            self._dialect.create_ledger_tables(driver, OWN_LOCK_TIMEOUT_MS)
            with self._dialect.open_transaction(driver):
                driver.execute(self._dialect.ledger_tables.delete_state)

    def _write_state(self, driver: Any, change: ChangeRef) -> None:  # noqa: ANN401
        values = (change.release, change.generation, change.id)
        driver.execute(self._dialect.ledger_tables.upsert_state, values)

    def write_baseline(
        self, change: ChangeRef, migrations: Sequence[SqlMigration], *, write_state: bool = False
    ) -> None:
        """Record migrations that were applied before there was a ledger; keep an existing ledger.

        A ledger with rows of this change only is rewritten, since an adoption may be corrected.

        Args:
            change: The change for the ledger rows.
            migrations: Migrations of the installed release.
            write_state: Whether to write the state row, too.
        """
        tables = self._dialect.ledger_tables
        with self._open_connection() as driver:
            if any(row.change != change.id for row in self._read_ledger(driver)):
                return
            self._dialect.create_ledger_tables(driver, OWN_LOCK_TIMEOUT_MS)
            with self._dialect.open_transaction(driver):
                driver.execute(tables.delete_change, (change.id,))
                for item in migrations:
                    values = (item.migration.id, MigrationDirection.UP.value, item.up_sha256)
                    row = (*values, change.release, change.id, self._now())
                    driver.execute(tables.insert_row, row)
                driver.execute(tables.delete_versions).fetchall()
                for item in migrations[-1:]:
                    driver.execute(tables.insert_version, (item.migration.id,))
                if write_state:
                    self._write_state(driver, change)

    def migrate(
        self,
        change: ChangeRef,
        target: Sequence[SqlMigration],
        origin: Sequence[SqlMigration] | None,
        progress: ProgressListener,
    ) -> MigrationPlan:
        """Plan from the current ledger, run the plan, and write the state row; return the plan.

        A second call after a crash continues where the ledger ends.

        Raises:
            MigrationRefusedError: See :func:`.planner.plan_database_migrations`.
            MigrationFailedError: A step failed; earlier steps stay applied.
            SERVER_LOST: The server was lost.
            DATABASE_DISK_FAILED: Its disk is full or failed.
        """
        migrations: dict[tuple[MigrationDirection, str], SqlMigration] = {}
        migrations.update({(MigrationDirection.DOWN, m.migration.id): m for m in origin or ()})
        migrations.update({(MigrationDirection.UP, m.migration.id): m for m in target})
        # One connection for all steps: connecting may take longer than the migrations.
        with self._open_connection() as driver:
            rows = self._read_ledger(driver)
            plan = plan_database_migrations(self._database, rows, target, origin)
            self._run_plan(driver, plan, rows, migrations, change, progress)
            self._dialect.set_lock_timeout(driver, OWN_LOCK_TIMEOUT_MS)
            self._write_state(driver, change)  # one statement, so a transaction of its own
        return plan

    def _run_plan(
        self,
        driver: Any,  # noqa: ANN401 - drivers share no type
        plan: MigrationPlan,
        rows: Sequence[AppliedMigration],
        migrations: Mapping[tuple[MigrationDirection, str], SqlMigration],
        change: ChangeRef,
        progress: ProgressListener,
    ) -> None:
        irreversible = find_irreversible_downs(plan)
        if irreversible:
            raise make_refusal(self._database, MigrationReason.IRREVERSIBLE, irreversible[0][1])
        steps = [step for step in plan.steps if step.database == self._database]
        first = steps[0] if steps else None
        item = migrations[first.direction, first.id] if first else None
        lock_ms = item.migration.lock_timeout_ms if item else OWN_LOCK_TIMEOUT_MS
        with self._translate_errors(driver, first.id if first else "-"):
            self._dialect.create_ledger_tables(driver, lock_ms)
            heads = [row[0] for row in driver.execute(self._dialect.ledger_tables.select_version)]
        stack = [row.id for row in reduce_ledger(self._database, rows)]
        versions = _list_versions(stack, steps)
        if not steps:
            return
        if heads != stack[-1:]:
            migration = str(heads[0]) if heads else stack[-1]
            raise make_refusal(self._database, MigrationReason.LEDGER_BROKEN, migration)
        executor = MigrationExecutor(self._dialect, driver, self._database, change, self._now)
        for number, step in enumerate(steps):
            values = {
                "database": self._database, "migration": step.id, "number": number + 1,
                "total": len(steps),
            }  # fmt: skip
            # Whole sentences: a single word sent to the service cannot be translated there.
            template = (
                N_("{database}: migration {migration} ({number} of {total})")
                if step.direction is MigrationDirection.UP
                else N_("{database}: reverting migration {migration} ({number} of {total})")
            )
            progress.report(LazyText(template, values), Amount(number, len(steps)))
            item = migrations[step.direction, step.id]
            with report_heartbeat(self._make_heartbeat(step, progress), self._heartbeat_s):
                executor.run_migration(step, item, *versions[number : number + 2])
        done = LazyText(N_("{database}: completed"), {"database": self._database})
        progress.report(done, Amount(len(steps), len(steps)))

    def _make_heartbeat(
        self, step: PlannedMigration, progress: ProgressListener
    ) -> Callable[[float], None]:
        def report(seconds: float) -> None:
            values = {"database": self._database, "migration": step.id, "seconds": round(seconds)}
            template = N_("{database}: migration {migration} running for {seconds} s")
            progress.report(LazyText(template, values))

        return report

    @contextlib.contextmanager
    def _translate_errors(self, driver: Any, migration: str) -> Iterator[None]:  # noqa: ANN401
        """Translate a driver's error inside the block into a failure of the migration.

        If the environment is at fault (a full disk, a lost server), raise that error instead.
        """
        try:
            yield
        except self._dialect.error_type as error:
            detail = sanitize_error(error)
            fault = self._dialect.classify_environment_fault(driver, error)
            raise _make_migration_error(self._database, migration, detail, fault) from error

    def _read_ledger(self, driver: Any) -> tuple[AppliedMigration, ...]:  # noqa: ANN401
        tables = self._dialect.ledger_tables
        if not driver.execute(tables.exists).fetchone():
            return ()
        return ledger.parse_ledger_rows(driver.execute(tables.select_rows).fetchall())

    @contextlib.contextmanager
    def _open_connection(self) -> Iterator[Any]:
        try:
            with contextlib.closing(self._dialect.connect()) as driver:
                yield driver
        except self._dialect.error_type as error:
            detail = sanitize_error(error)
            raise DatabaseError(database=self._database, detail=detail) from error


def _list_versions(stack: Sequence[str], steps: Sequence[PlannedMigration]) -> list[str | None]:
    """Return the newest migration before the first step, and after each step."""
    applied = list(stack)
    versions = [applied[-1] if applied else None]
    for step in steps:
        if step.direction is MigrationDirection.DOWN:
            applied.pop()
        else:
            applied.append(step.id)
        versions.append(applied[-1] if applied else None)
    return versions


def _make_migration_error(
    database: str, migration: str, detail: LazyText | str, fault: ErrorMessage | None = None
) -> DatabaseError:
    """Make the error of a failed migration, or that of a faulty environment (full disk, ...)."""
    if fault is not None:
        return DatabaseError(fault, database=database, migration=migration, detail=detail)
    return MigrationFailedError(database=database, migration=migration, detail=detail)


def format_dangling_references(counts: Mapping[tuple[str, str], int]) -> str:
    """Format table, referenced table, and number of rows, for the detail of an error."""
    return "; ".join(
        f"{table} -> {referenced}: {count}" for (table, referenced), count in sorted(counts.items())
    )


class MigrationExecutor:
    """Executor of the migrations of a plan, one at a time.

    Args:
        dialect: Engine-specific part.
        driver: The driver's own connection, outside any transaction.
        database: Logical name, for messages.
        change: The change for the ledger rows.
        now: Returns the time of a ledger row.
    """

    def __init__(
        self,
        dialect: MigrationDialect,
        driver: Any,  # noqa: ANN401 - drivers share no type
        database: str,
        change: ChangeRef,
        now: Callable[[], str],
    ) -> None:
        self._dialect = dialect
        self._driver = driver
        self._database = database
        self._change = change
        self._now = now
        self._migration = "-"
        self._dangling: Counter[tuple[str, str]] | None = None

    def run_migration(
        self, step: PlannedMigration, item: SqlMigration, before: str | None, after: str | None
    ) -> None:
        """Run a migration, verify it, and write ledger row and version row, in one transaction.

        A migration that cannot run in a transaction runs before it.

        Args:
            step: The migration.
            item: Its limits and ``verify`` file.
            before: The newest migration before it; None if there is none.
            after: The newest migration after it; None if there is none.

        Raises:
            MigrationFailedError: The migration failed, in the agent or at the server.
            SERVER_LOST: The server was lost; the release is not to blame.
            DATABASE_DISK_FAILED: Its disk is full or failed; likewise.
            VERIFY_FAILED: The ``verify`` file found rows.
        """
        self._migration, began = step.id, time.monotonic()
        try:
            self._prepare_migration(step, item)
            with self._dialect.open_transaction(self._driver):
                self._run_in_transaction(step, item)
                self._replace_version(before, after)
        except self._dialect.error_type as error:
            fault = self._dialect.classify_environment_fault(self._driver, error)
            raise self._make_error(sanitize_error(error), fault) from error
        seconds = time.monotonic() - began
        logger.info(
            "migration %s/%s (%s) took %.1f s", self._database, step.id, step.direction, seconds
        )

    def _make_error(
        self, detail: LazyText | str, fault: ErrorMessage | None = None
    ) -> DatabaseError:
        return _make_migration_error(self._database, self._migration, detail, fault)

    def _prepare_migration(self, step: PlannedMigration, item: SqlMigration) -> None:
        self._check_digest(step)
        limits, driver = item.migration, self._driver
        self._dialect.set_lock_timeout(driver, limits.lock_timeout_ms)
        if self._dangling is None:
            self._dangling = self._dialect.count_dangling_references(driver)
        refusal = check_migration_sql(
            step.sql, self._dialect.engine_name, transactional=limits.transactional
        )
        if refusal is not None:
            raise self._make_error(refusal.reason)
        if limits.transactional:
            return
        (statement,) = split_statements(step.sql, self._dialect.engine_name)
        try:
            self._dialect.run_outside_transaction(
                driver, statement, limits.lock_timeout_ms, limits.statement_timeout_ms
            )
        except StatementError as error:
            raise self._make_error(error.message, error.environment_fault) from error

    def _run_in_transaction(self, step: PlannedMigration, item: SqlMigration) -> None:
        """Run the file, check that its transaction is open, verify, and write the ledger row."""
        limits, driver = item.migration, self._driver
        self._dialect.set_timeouts(driver, limits.lock_timeout_ms, limits.statement_timeout_ms)
        if limits.transactional:
            before = self._dialect.read_transaction(driver)
            try:
                self._dialect.run_file(driver, step.sql, limits.statement_timeout_ms)
            except StatementError as error:
                raise self._make_error(error.message, error.environment_fault) from error
            after = self._dialect.read_transaction(driver)
            if before is None or after is None or after[0] != before[0]:
                raise self._make_error(LazyText(N_("the file ended its own transaction")))
            if after != before:
                raise self._make_error(
                    LazyText(N_("the file changed the role or attached a database"))
                )
        self._check_dangling_references()
        if step.direction is MigrationDirection.UP and item.verify is not None:
            self._run_verify_file(item)
        row = (
            step.id,
            step.direction.value,
            step.sha256,
            self._change.release,
            self._change.id,
            self._now(),
        )
        driver.execute(self._dialect.ledger_tables.insert_row, row)

    def _replace_version(self, before: str | None, after: str | None) -> None:
        """Set the version row to the migration that is the newest now."""
        driver, tables = self._driver, self._dialect.ledger_tables
        rows = driver.execute(tables.delete_versions).fetchall()
        if [str(name) for (name,) in rows] != ([] if before is None else [before]):
            raise self._make_error(LazyText(N_("the version row changed during the migration")))
        if after is not None:
            driver.execute(tables.insert_version, (after,))

    def _check_dangling_references(self) -> None:
        """Refuse new rows that violate a foreign key; existing ones are tolerated."""
        now = self._dialect.count_dangling_references(self._driver)
        added = now - (self._dangling or Counter())
        if added:
            raise MigrationFailedError(
                REFERENCES_BROKEN,
                database=self._database,
                migration=self._migration,
                count=added.total(),
                detail=format_dangling_references(added),
            )
        self._dangling = now

    def _check_digest(self, step: PlannedMigration) -> None:
        try:
            content = step.path.read_bytes()
        except OSError as error:
            raise self._make_error(str(error)) from error
        if hashlib.sha256(content).hexdigest() != step.sha256:
            raise self._make_error(f"{step.path.name} is not the file that was planned")
        if content != step.sql.encode("utf-8"):
            raise self._make_error(f"{step.path.name} differs from the plan")

    def _run_verify_file(self, item: SqlMigration) -> None:
        path = item.verify
        if path is None:
            return
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._make_error(str(error)) from error
        if item.verify_sha256 and hashlib.sha256(content).hexdigest() != item.verify_sha256:
            raise self._make_error(f"{path.name} is not the file that was planned")
        sql = content.decode("utf-8")
        refusal = check_verify_sql(sql, self._dialect.engine_name)
        if refusal is not None:
            raise self._make_error(
                LazyText("{name}: {text}", {"name": path.name, "text": refusal.reason})
            )
        with self._dialect.open_query_block(self._driver):
            for statement in split_statements(sql, self._dialect.engine_name):
                try:
                    count = self._dialect.count_rows(
                        self._driver, statement, item.migration.statement_timeout_ms
                    )
                except StatementError as error:
                    values = {"name": path.name, "text": error.message}
                    text = LazyText("{name}: {text}", values)
                    raise self._make_error(text, error.environment_fault) from error
                if count:
                    raise MigrationFailedError(
                        VERIFY_FAILED,
                        database=self._database,
                        migration=item.migration.id,
                        count=count,
                        detail=f"{path.name}, line {statement.line}",
                    )
