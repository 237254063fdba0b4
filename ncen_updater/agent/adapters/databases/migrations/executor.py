"""One migration, in one transaction with all that is written about it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ncen_updater.agent.adapters.databases.base import (
    ChangeRef,
    MigrationDirection,
    PlannedMigration,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.dialect import (
    MigrationDialect,
    StatementError,
)
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailedError
from ncen_updater.common.messages import (
    REFERENCES_BROKEN,
    VERIFY_FAILED,
    ErrorMessage,
)
from ncen_updater.formats.sql import check_migration_sql, check_verify_sql, split_statements

log = logging.getLogger(__name__)


def format_dangling_references(found: Mapping[tuple[str, str], int]) -> str:
    """Return table, table referred to, and number of rows, for the detail of an error."""
    return "; ".join(f"{table} -> {to}: {count}" for (table, to), count in sorted(found.items()))


class MigrationExecutor:
    """The migrations of a plan, one at a time.

    Args:
        dialect: The engine's side.
        driver: The driver's own connection, outside any transaction.
        database: Logical name, for messages.
        change: Goes into the ledger.
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
        self, step: PlannedMigration, item: SqlMigration, standing: str | None, top: str | None
    ) -> None:
        """Run a migration; verify, ledger row and version row are in its transaction.

        One that refuses a transaction runs before it has one.

        Args:
            step: The migration.
            item: Its limits and ``verify`` file.
            standing: The newest migration before it, None for none.
            top: The newest one after it.

        Raises:
            MigrationFailedError: Anything of it failed, at the server too.
            SERVER_LOST: Server or disk failed below it: no verdict on the release.
            VERIFY_FAILED: The ``verify`` file found rows.
        """
        self._migration, began = step.id, time.monotonic()
        try:
            self._prepare_migration(step, item)
            with self._dialect.open_transaction(self._driver):
                self._run_in_transaction(step, item)
                self._turn(standing, top)
        except self._dialect.error_type as error:
            fault = self._dialect.classify_environment_fault(self._driver, error)
            raise self._make_error(self._dialect.explain_error(error), fault) from error
        took = time.monotonic() - began
        log.info("migration %s/%s (%s) took %.1f s", self._database, step.id, step.direction, took)

    def _make_error(self, detail: str, fault: ErrorMessage | None = None) -> DatabaseError:
        if fault is not None:
            return DatabaseError(
                fault,
                database=self._database,
                migration=self._migration,
                detail=detail,
            )
        return MigrationFailedError(
            database=self._database, migration=self._migration, detail=detail
        )

    def _prepare_migration(self, step: PlannedMigration, item: SqlMigration) -> None:
        self._check_digest(step)
        limits, driver = item.migration, self._driver
        self._dialect.set_lock_timeout(driver, limits.lock_timeout_ms)
        if self._dangling is None:
            self._dangling = self._dialect.count_dangling_references(driver)
        refused = check_migration_sql(
            step.sql, self._dialect.engine_name, transactional=limits.transactional
        )
        if refused is not None:
            raise self._make_error(refused.reason)
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
        """Run the file, look at the transaction, verify, write the ledger row."""
        limits, driver = item.migration, self._driver
        self._dialect.set_timeouts(driver, limits.lock_timeout_ms, limits.statement_timeout_ms)
        if limits.transactional:
            before = self._dialect.read_transaction_id(driver)
            around = self._dialect.read_environment(driver)
            try:
                self._dialect.run_file(driver, step.sql, limits.statement_timeout_ms)
            except StatementError as error:
                raise self._make_error(error.message, error.environment_fault) from error
            if before is None or self._dialect.read_transaction_id(driver) != before:
                raise self._make_error("the file ended its own transaction")
            if self._dialect.read_environment(driver) != around:
                raise self._make_error("the file changed the role or attached a database")
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

    def _turn(self, standing: str | None, top: str | None) -> None:
        """Let the version row name the migration that is the newest now."""
        driver, tables = self._driver, self._dialect.ledger_tables
        rows = driver.execute(tables.select_version).fetchall()
        if [str(name) for (name,) in rows] != ([] if standing is None else [standing]):
            raise self._make_error("the version row changed during the migration")
        if standing is not None:
            driver.execute(tables.delete_version, (standing,))
        if top is not None:
            driver.execute(tables.insert_version, (top,))

    def _check_dangling_references(self) -> None:
        """Refuse rows that refer to nothing; those that a site had before are left to it."""
        now = self._dialect.count_dangling_references(self._driver)
        more = now - (self._dangling or Counter())
        if more:
            raise MigrationFailedError(
                REFERENCES_BROKEN,
                database=self._database,
                migration=self._migration,
                count=more.total(),
                detail=format_dangling_references(more),
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
            raise self._make_error(f"the plan does not hold the text of {step.path.name}")

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
        refused = check_verify_sql(sql, self._dialect.engine_name)
        if refused is not None:
            raise self._make_error(f"{path.name}: {refused.reason}")
        for statement in split_statements(sql, self._dialect.engine_name):
            try:
                count = self._dialect.count_rows(
                    self._driver, statement, item.migration.statement_timeout_ms
                )
            except StatementError as error:
                raise self._make_error(
                    f"{path.name}: {error.message}", error.environment_fault
                ) from error
            if count:
                raise MigrationFailedError(
                    VERIFY_FAILED,
                    database=self._database,
                    migration=item.migration.id,
                    count=count,
                    detail=f"{path.name}, line {statement.line}",
                )
