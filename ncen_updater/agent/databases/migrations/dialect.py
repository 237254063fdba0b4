"""What differs between engines when a migration runs. One object for one database.

An engine's room makes a dialect from a way to open a connection as the application's role; the
runner does the rest.
"""

from __future__ import annotations

import abc
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from ncen_updater.agent.databases.migrations import ledger
from ncen_updater.common.database_words import said
from ncen_updater.common.messages import DATABASE_DISK_FAILED, SERVER_LOST, Message
from ncen_updater.formats.sql import Statement, counting, split

if TYPE_CHECKING:
    import psycopg

__all__ = ["Dialect", "PostgresDialect", "StatementFailed", "fault_of_state"]


# A file that outlives its time-outs by this is ended from outside.
GRACE_S = 5.0
_SURROUNDINGS = """
SELECT current_user, session_user,
  (SELECT md5(string_agg(concat_ws('|', d.oid, d.datname, d.datallowconn, d.datconnlimit,
     d.datistemplate, d.datacl, shobj_description(d.oid, 'pg_database'),
     (SELECT string_agg(s::text, ',' ORDER BY s.setrole)
        FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)), ';' ORDER BY d.oid))
   FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = current_user)
"""


class StatementFailed(Exception):
    """A statement that the server refused; the runner adds database and migration.

    Args:
        message: What the server said.
        line: Of the file.
        fault: What failed below the statement, where it is none of the release's.
    """

    def __init__(self, message: str, line: int | None = None, fault: Message | None = None) -> None:
        self.message = message if line is None else f"line {line}: {message}"
        self.fault = fault
        super().__init__(self.message)


def fault_of_state(state: str | None, *, closed: bool) -> Message | None:
    """Return what failed where it is none of the release's, by the server's own code; pure.

    Args:
        state: The SQLSTATE; None where the server could not tell one.
        closed: Whether the session is gone.
    """
    if state is None:
        return SERVER_LOST if closed else None
    if state.startswith(("53", "58030", "58000")):
        return DATABASE_DISK_FAILED  # no room, no memory; the disk
    return SERVER_LOST if state.startswith(("08", "57P")) else None


class Dialect(abc.ABC):
    """The engine's side of the runner. *driver* is the driver's own connection."""

    kind: ClassVar[str]
    tables: ClassVar[ledger.Tables]

    @property
    @abc.abstractmethod
    def error(self) -> type[Exception]:
        """What the driver raises."""

    def explain(self, error: Exception) -> str:
        """Return what an exception of the driver says, without what may hold a row."""
        return said(error)

    @abc.abstractmethod
    def fault(self, driver: Any, error: Exception) -> Message | None:  # noqa: ANN401
        """Return what failed below a statement where that is none of the release's; else None."""

    @abc.abstractmethod
    def connect(self) -> Any:  # noqa: ANN401 - drivers share no type
        """Open a connection as the application's role, outside any transaction."""

    @abc.abstractmethod
    def transaction(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """A transaction around a block: committed at its end, rolled back when it raises."""

    @abc.abstractmethod
    def prepare(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Make the own tables and the place for parked rows, if missing, in a transaction.

        Args:
            driver: The driver's own connection.
            lock_ms: Milliseconds to wait for a lock.
        """

    def wait_for(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Say how long the next transaction may wait for the lock that it begins with, if any."""
        del driver, lock_ms

    def dangling(self, driver: Any) -> Counter[tuple[str, str]]:  # noqa: ANN401
        """Count the rows that break a foreign key, by table and table referred to.

        Empty where the server itself refuses such rows.
        """
        del driver
        return Counter()

    @abc.abstractmethod
    def limits(self, driver: Any, lock_ms: int, statement_ms: int) -> None:  # noqa: ANN401
        """Set the time-outs, for this transaction only where there is one."""

    @abc.abstractmethod
    def run_file(self, driver: Any, sql: str, statement_ms: int) -> None:  # noqa: ANN401
        """Run every statement of a file inside the open transaction.

        Raises:
            StatementFailed: With the server's message and the line.
        """

    @abc.abstractmethod
    def run_alone(
        self,
        driver: Any,  # noqa: ANN401
        statement: Statement,
        lock_ms: int,
        statement_ms: int,
    ) -> None:
        """Run one statement outside any transaction.

        Raises:
            StatementFailed: With the server's message and the line.
        """

    @abc.abstractmethod
    def transaction_id(self, driver: Any) -> str | None:  # noqa: ANN401
        """Return what names the open transaction, None if there is none."""

    def surroundings(self, driver: Any) -> str:  # noqa: ANN401
        """Return what lies outside a migration's own database and it must leave as it is."""
        del driver
        return ""

    def count(self, driver: Any, statement: Statement, statement_ms: int) -> int:  # noqa: ANN401
        """Return the number of rows of a SELECT.

        Raises:
            StatementFailed: If it is none.
        """
        try:
            with self.timed(driver, statement_ms):
                row = driver.execute(counting(statement)).fetchone()
        except self.error as error:
            fault = self.fault(driver, error)
            raise StatementFailed(self.explain(error), statement.line, fault) from error
        return int(row[0])

    @contextlib.contextmanager
    def timed(self, driver: Any, statement_ms: int) -> Iterator[None]:  # noqa: ANN401
        """Bound what runs inside, where the server does not do it by itself."""
        del driver, statement_ms
        yield


class PostgresDialect(Dialect):
    """PostgreSQL through psycopg.

    Args:
        connect: Opens a connection to the database, in autocommit mode, already under ``SET ROLE``
            of the application's role.
        end: Ends the session with a process number from outside: a file can put off or catch what
            the server does about time, but not that.
    """

    kind = "postgresql"
    tables = ledger.POSTGRESQL

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        end: Callable[[int], None] | None = None,
    ) -> None:
        self._connect = connect
        self._end = end

    @property
    def error(self) -> type[psycopg.Error]:
        """What psycopg raises."""
        import psycopg

        return psycopg.Error

    def fault(self, driver: Any, error: Exception) -> Message | None:  # noqa: ANN401
        """By the SQLSTATE; without one, by whether the session is gone."""
        return fault_of_state(getattr(error, "sqlstate", None), closed=bool(driver.closed))

    def connect(self) -> psycopg.Connection[Any]:
        """Ask ``connect``."""
        return self._connect()

    def transaction(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """The driver's own: where the session is gone, the reason for that is what is raised."""
        block: contextlib.AbstractContextManager[object] = driver.transaction()
        return block

    def prepare(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Make the schemas ``ncen_updater`` and ``ncen_kept`` and the tables."""
        kept = f"CREATE SCHEMA IF NOT EXISTS {ledger.KEPT_SCHEMA}"
        with self.transaction(driver):
            driver.execute(f"SET LOCAL lock_timeout = {lock_ms:d}")
            for statement in (*self.tables.create, kept):
                driver.execute(statement)

    def limits(self, driver: Any, lock_ms: int, statement_ms: int) -> None:  # noqa: ANN401
        """SET LOCAL: gone with the transaction."""
        driver.execute(f"SET LOCAL lock_timeout = {lock_ms:d}")
        driver.execute(f"SET LOCAL statement_timeout = {statement_ms:d}")
        driver.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

    def run_file(self, driver: Any, sql: str, statement_ms: int) -> None:  # noqa: ANN401
        """Without parameters the driver sends the text as it is: no ``%``, no ``:name``."""
        # The server counts the time-out for each statement.
        whole_ms = statement_ms * max(1, len(split(sql, self.kind)))
        with self._explained(driver, sql), self.timed(driver, whole_ms):
            driver.execute(sql)
            driver.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def run_alone(
        self,
        driver: Any,  # noqa: ANN401
        statement: Statement,
        lock_ms: int,
        statement_ms: int,
    ) -> None:
        """With the time-outs of the session, set and put back."""
        driver.execute(f"SET lock_timeout = {lock_ms:d}")
        driver.execute(f"SET statement_timeout = {statement_ms:d}")
        with (
            self._explained(driver, statement.text, statement.line - 1),
            self.timed(driver, statement_ms),
        ):
            driver.execute(statement.text)
        driver.execute("RESET lock_timeout")
        driver.execute("RESET statement_timeout")

    def transaction_id(self, driver: Any) -> str | None:  # noqa: ANN401
        """Return the transaction's own number, so that COMMIT followed by BEGIN is seen too."""
        from psycopg.pq import TransactionStatus

        if driver.info.transaction_status is not TransactionStatus.INTRANS:
            return None
        return str(driver.execute("SELECT pg_current_xact_id()").fetchone()[0])

    def surroundings(self, driver: Any) -> str:  # noqa: ANN401
        """Role, and the role's databases as others see them: live ones are fenced by that."""
        return str(driver.execute(_SURROUNDINGS).fetchone())

    @contextlib.contextmanager
    def timed(self, driver: Any, statement_ms: int) -> Iterator[None]:  # noqa: ANN401
        """End the session a little after the server should have stopped the statement."""
        end = self._end
        if end is None:
            yield
            return
        ended = threading.Event()

        def stop(process: int) -> None:
            ended.set()
            end(process)

        seconds = statement_ms / 1000 + GRACE_S
        timer = threading.Timer(seconds, stop, [driver.info.backend_pid])
        timer.daemon = True
        timer.start()
        try:
            yield
        except self.error as error:
            if ended.is_set():
                raise StatementFailed(f"ended after {seconds:g} s (statement time-out)") from error
            raise
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _explained(
        self, driver: psycopg.Connection[Any], sql: str, lines_before: int = 0
    ) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            position = error.diag.statement_position
            line = None
            if position is not None:
                line = lines_before + 1 + sql.count("\n", 0, int(position) - 1)
            fault = self.fault(driver, error)
            raise StatementFailed(self.explain(error), line, fault) from error
