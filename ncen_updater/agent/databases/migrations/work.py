"""One migration inside the transaction that Alembic holds, and Alembic's picture of a plan."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.databases.base import (
    ChangeRef,
    Direction,
    PlannedMigration,
    SqlMigration,
)
from ncen_updater.agent.databases.errors import MigrationFailed, ReferencesBroken, VerifyFailed
from ncen_updater.agent.databases.migrations.dialect import Dialect, StatementFailed
from ncen_updater.formats.sql import refusal, split, verify_refusal

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ["Revisions", "Work", "driver_of", "raw_driver", "tell_dangling"]

log = logging.getLogger(__name__)


def tell_dangling(found: Mapping[tuple[str, str], int]) -> str:
    """Return table, table referred to, and number of rows, for the detail of an error."""
    return "; ".join(f"{table} -> {to}: {count}" for (table, to), count in sorted(found.items()))


def raw_driver(connection: sqlalchemy.Connection) -> Any:  # noqa: ANN401 - drivers share no type
    """Return the driver's own connection, without a transaction of SQLAlchemy's: for reading."""
    return connection.connection.driver_connection


def driver_of(connection: sqlalchemy.Connection) -> Any:  # noqa: ANN401 - drivers share no type
    """Return the driver's own connection, inside SQLAlchemy's current transaction."""
    connection.get_transaction() or connection.begin()
    return connection.connection.driver_connection


class Work:
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
        self._dangling: Counter[tuple[str, str]] | None = None

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
        driver = raw_driver(connection)
        self._dialect.wait_for(driver, limits.lock_timeout_ms)
        if self._dangling is None:
            self._dangling = self._dialect.dangling(driver)
        refused = refusal(step.sql, self._dialect.kind, transactional=limits.transactional)
        if refused is not None:
            raise self.failed(refused.reason)
        if limits.transactional:
            return
        (statement,) = split(step.sql, self._dialect.kind)
        connection.commit()
        try:
            self._dialect.run_alone(
                driver_of(connection),
                statement,
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
        driver = driver_of(self._connection)
        limits = item.migration
        self._dialect.limits(driver, limits.lock_timeout_ms, limits.statement_timeout_ms)
        if limits.transactional:
            before = self._dialect.transaction(driver)
            around = self._dialect.surroundings(driver)
            try:
                self._dialect.run_file(driver, step.sql, limits.statement_timeout_ms)
            except StatementFailed as error:
                raise self.failed(error.message) from error
            if before is None or self._dialect.transaction(driver) != before:
                raise self.failed("the file ended its own transaction")
            if self._dialect.surroundings(driver) != around:
                raise self.failed("the file changed its role, or databases from outside")
        self._check_references(driver)
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

    def _check_references(self, driver: Any) -> None:  # noqa: ANN401
        """Refuse rows that refer to nothing; those that a site had before are left to it."""
        now = self._dialect.dangling(driver)
        more = now - (self._dangling or Counter())
        if more:
            raise ReferencesBroken(
                database=self._database,
                migration=self._step.id if self._step else "-",
                count=more.total(),
                detail=tell_dangling(more),
            )
        self._dangling = now

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
        sql = content.decode("utf-8")
        refused = verify_refusal(sql, self._dialect.kind)
        if refused is not None:
            raise self.failed(f"{path.name}: {refused.reason}")
        for statement in split(sql, self._dialect.kind):
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


class Revisions:
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
