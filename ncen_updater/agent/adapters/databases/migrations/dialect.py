"""Differences between engines when a migration runs. One object for one database.

An engine's room makes a dialect from a way to open a connection as the application's role; the
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
    """Return the reason of a statement that took too long."""
    return LazyText(
        N_("stopped after {seconds} s (statement timeout)"), {"seconds": f"{seconds:g}"}
    )


class StatementError(Exception):
    """A statement that the server refused; the runner adds database and migration.

    Args:
        message: What the server said.
        line: Of the file.
        fault: What failed below the statement, where it is none of the release's.
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
    """The engine's side of the runner. *driver* is the driver's own connection."""

    engine_name: ClassVar[str]
    ledger_tables: ClassVar[ledger.LedgerTables]

    @property
    @abc.abstractmethod
    def error_type(self) -> type[Exception]:
        """Return what the driver raises."""

    def explain_error(self, error: Exception) -> str:
        """Return what an exception of the driver says, without what may hold a row."""
        return sanitize_error(error)

    @abc.abstractmethod
    def classify_environment_fault(self, driver: Any, error: Exception) -> ErrorMessage | None:  # noqa: ANN401
        """Return what failed below a statement where that is none of the release's; else None."""

    @abc.abstractmethod
    def connect(self) -> Any:  # noqa: ANN401 - drivers share no type
        """Open a connection as the application's role, outside any transaction."""

    @abc.abstractmethod
    def open_transaction(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """Open a transaction around a block: committed at its end, rolled back on an error."""

    @abc.abstractmethod
    def create_ledger_tables(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Make the own tables and the place for parked rows, if missing, in a transaction.

        Args:
            driver: The driver's own connection.
            lock_ms: Milliseconds to wait for a lock.
        """

    def set_lock_timeout(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Say how long the next transaction may wait for the lock that it begins with, if any."""
        del driver, lock_ms

    def count_dangling_references(self, driver: Any) -> Counter[tuple[str, str]]:  # noqa: ANN401
        """Count the rows that break a foreign key, by table and table referred to.

        Empty where the server itself refuses such rows.
        """
        del driver
        return Counter()

    @abc.abstractmethod
    def set_timeouts(self, driver: Any, lock_ms: int, statement_ms: int) -> None:  # noqa: ANN401
        """Set the time-outs, for this transaction only where there is one."""

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
    def read_transaction_id(self, driver: Any) -> str | None:  # noqa: ANN401
        """Return what names the open transaction, None if there is none."""

    def read_environment(self, driver: Any) -> str:  # noqa: ANN401
        """Return what lies outside a migration's own database and it must leave as it is."""
        del driver
        return ""

    def asking(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """Open a block in the transaction from which nothing remains, where a SELECT can write."""
        return contextlib.nullcontext(driver)

    def count_rows(self, driver: Any, statement: SqlStatement, statement_ms: int) -> int:  # noqa: ANN401
        """Return the number of rows of a SELECT, whatever functions it calls.

        Raises:
            StatementError: If it is none.
        """
        try:
            with self.asking(driver), self.enforce_timeout(driver, statement_ms):
                row = driver.execute(make_count_query(statement)).fetchone()
        except self.error_type as error:
            fault = self.classify_environment_fault(driver, error)
            raise StatementError(self.explain_error(error), statement.line, fault) from error
        return int(row[0])

    @contextlib.contextmanager
    def enforce_timeout(self, driver: Any, statement_ms: int) -> Iterator[None]:  # noqa: ANN401
        """Bound what runs inside, where the server does not do it by itself."""
        del driver, statement_ms
        yield
