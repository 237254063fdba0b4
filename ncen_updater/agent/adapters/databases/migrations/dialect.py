"""Differences between engines when a migration runs. One object for one database.

An engine's package creates the dialect with a function that connects as the application's role; the
runner does the rest.
"""

from __future__ import annotations

import abc
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ErrorMessage
from ncen_updater.formats.dialects import SqlStatement
from ncen_updater.formats.sql import make_count_query


def make_timeout_text(seconds: float) -> LazyText:
    """Return the reason of a statement time-out."""
    return LazyText(
        N_("stopped after {seconds} s (statement timeout)"), {"seconds": f"{seconds:g}"}
    )


class StatementError(Exception):
    """Error of a statement that the server refused; the runner adds database and migration.

    Args:
        message: Message of the server.
        line: Line of the file.
        fault: The error of the environment, if the release is not to blame.
    """

    def __init__(
        self, message: LazyText | str, line: int | None = None, fault: ErrorMessage | None = None
    ) -> None:
        self.message = message
        if line is not None:
            values = {"line": line, "text": message}
            self.message = LazyText(N_("line {line}: {text}"), values)
        self.environment_fault = fault
        super().__init__(str(self.message))


class MigrationDialect(abc.ABC):
    """Engine-specific part of the runner. *driver* is the driver's own connection."""

    engine_name: ClassVar[str]
    ledger_tables: ClassVar[ledger.LedgerTables]

    @property
    @abc.abstractmethod
    def error_type(self) -> type[Exception]:
        """Return the exception type of the driver."""

    @abc.abstractmethod
    def classify_environment_fault(self, driver: Any, error: Exception) -> ErrorMessage | None:  # noqa: ANN401
        """Return the environment's error behind an exception; None if the release may be bad."""

    @abc.abstractmethod
    def connect(self) -> Any:  # noqa: ANN401 - drivers share no type
        """Open a connection as the application's role, outside any transaction."""

    @abc.abstractmethod
    def open_transaction(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """Open a transaction for a block: committed at its end, rolled back on an error."""

    @abc.abstractmethod
    def create_ledger_tables(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Create the agent's tables and the schema for parked rows, if missing, in a transaction.

        Args:
            driver: The driver's own connection.
            lock_ms: Limit of the wait for a lock, in milliseconds.
        """

    def set_lock_timeout(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Set how long the next transaction may wait for the lock with which it begins, if any."""
        del driver, lock_ms

    def count_dangling_references(self, driver: Any) -> Counter[tuple[str, str]]:  # noqa: ANN401
        """Count the rows that violate a foreign key, by table and referenced table.

        Empty if the server itself enforces foreign keys.
        """
        del driver
        return Counter()

    @abc.abstractmethod
    def set_timeouts(self, driver: Any, lock_ms: int, statement_ms: int) -> None:  # noqa: ANN401
        """Set the time-outs, for this transaction only if there is one."""

    @abc.abstractmethod
    def run_file(self, driver: Any, sql: str, statement_ms: int) -> None:  # noqa: ANN401
        """Run every statement of a file inside the open transaction.

        Raises:
            StatementError: With the server's message and the line.
        """

    @abc.abstractmethod
    def run_outside_transaction(
        self,
        driver: Any,  # noqa: ANN401
        statement: SqlStatement,
        lock_ms: int,
        statement_ms: int,
    ) -> None:
        """Run one statement outside any transaction.

        Raises:
            StatementError: With the server's message and the line.
        """

    @abc.abstractmethod
    def read_transaction(self, driver: Any) -> tuple[str, str] | None:  # noqa: ANN401
        """Return what a migration must not change: the open transaction and its environment.

        Returns:
            An identifier of the transaction, and state outside the migration's own database; None
            if no transaction is open.
        """

    def open_query_block(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """Open a block for queries; its effects are rolled back if a SELECT can write."""
        return contextlib.nullcontext(driver)

    def count_rows(self, driver: Any, statement: SqlStatement, statement_ms: int) -> int:  # noqa: ANN401
        """Return the number of rows of a SELECT, in a block of :meth:`open_query_block`.

        Raises:
            StatementError: If the query fails.
        """
        try:
            with self.enforce_timeout(driver, statement_ms):
                row = driver.execute(make_count_query(statement)).fetchone()
        except self.error_type as error:
            fault = self.classify_environment_fault(driver, error)
            raise StatementError(sanitize_error(error), statement.line, fault) from error
        return int(row[0])

    @contextlib.contextmanager
    def enforce_timeout(self, driver: Any, statement_ms: int) -> Iterator[None]:  # noqa: ANN401
        """Limit the duration of a block, if the server does not do so itself."""
        del driver, statement_ms
        yield
