"""Dialect of migrations on PostgreSQL; see :mod:`..migrations.dialect`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.dialect import (
    MigrationDialect,
    StatementError,
    make_timeout_text,
)
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.messages import DATABASE_DISK_FAILED, SERVER_LOST, ErrorMessage
from ncen_updater.formats.dialects import SqlStatement
from ncen_updater.formats.sql import split_statements

if TYPE_CHECKING:
    import psycopg

LEDGER_TABLES = ledger.build_ledger_tables(
    ledger.AGENT_SCHEMA,
    "",
    "%s",
    "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "SELECT 1 WHERE to_regclass('ncen_updater.ledger') IS NOT NULL "
    "AND to_regclass('ncen_updater.state') IS NOT NULL",
)
# Seconds after the time-out at which a session is terminated from outside.
GRACE_S = 5.0
_TRANSACTION_QUERY = """
SELECT pg_current_xact_id()::text, current_user, session_user,
  (SELECT md5(string_agg(concat_ws('|', d.oid, d.datname, d.datallowconn, d.datconnlimit,
     d.datistemplate, d.datacl, shobj_description(d.oid, 'pg_database'),
     (SELECT string_agg(s::text, ',' ORDER BY s.setrole)
        FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)), ';' ORDER BY d.oid))
   FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = current_user)
"""


def classify_sqlstate(state: str | None, *, closed: bool) -> ErrorMessage | None:
    """Return the environment's error behind a SQLSTATE; None if the release may be at fault; pure.

    Args:
        state: The SQLSTATE; None if the server reported none.
        closed: Whether the session is gone.
    """
    if state is None:
        return SERVER_LOST if closed else None
    if state.startswith(("53", "58030", "58000")):
        return DATABASE_DISK_FAILED  # no space, no other resources, or an I/O error
    return SERVER_LOST if state.startswith(("08", "57P")) else None


class PostgresDialect(MigrationDialect):
    """PostgreSQL through psycopg.

    Args:
        connect: Opens a connection to the database, in autocommit mode, as the application's role.
        terminate: Terminates a session by pid from outside: a file can change or catch the
            server's time-out, but not this.
    """

    engine_name = "postgresql"
    ledger_tables = LEDGER_TABLES

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        terminate: Callable[[int], None] | None = None,
    ) -> None:
        self._connect = connect
        self._terminate = terminate

    @property
    def error_type(self) -> type[psycopg.Error]:
        """Return the exception type of psycopg."""
        import psycopg

        return psycopg.Error

    def classify_environment_fault(self, driver: Any, error: Exception) -> ErrorMessage | None:  # noqa: ANN401
        """Classify by the SQLSTATE; without one, by whether the session is gone."""
        return classify_sqlstate(getattr(error, "sqlstate", None), closed=bool(driver.closed))

    def connect(self) -> psycopg.Connection[Any]:
        """Call ``connect``."""
        return self._connect()

    def open_transaction(self, driver: Any) -> contextlib.AbstractContextManager[object]:  # noqa: ANN401
        """Open the driver's own transaction.

        If the session is lost, the cause of that is raised.
        """
        block: contextlib.AbstractContextManager[object] = driver.transaction()
        return block

    @contextlib.contextmanager
    def open_query_block(self, driver: Any) -> Iterator[None]:  # noqa: ANN401
        """Roll back effects that READ ONLY allows, such as those on large objects before 16.

        Inside a subtransaction the server refuses to switch back to READ WRITE.
        """
        driver.execute("SAVEPOINT asking; SET TRANSACTION READ ONLY")
        yield
        driver.execute("ROLLBACK TO SAVEPOINT asking")

    def create_ledger_tables(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Create the schemas ``ncen_updater`` and ``ncen_kept`` and the tables."""
        parked = f"CREATE SCHEMA IF NOT EXISTS {ledger.PARKED_SCHEMA}"
        limit = f"SET LOCAL lock_timeout = {lock_ms:d}"
        # One message, which the server treats as one transaction
        driver.execute("; ".join((limit, *self.ledger_tables.create, parked)))

    def set_timeouts(self, driver: Any, lock_ms: int, statement_ms: int) -> None:  # noqa: ANN401
        """Set the time-outs with SET LOCAL, so that they end with the transaction."""
        driver.execute(
            f"SET LOCAL lock_timeout = {lock_ms:d}; SET LOCAL statement_timeout = {statement_ms:d};"
            " SET LOCAL idle_in_transaction_session_timeout = 0"
        )

    def run_file(self, driver: Any, sql: str, statement_ms: int) -> None:  # noqa: ANN401
        """Send the file without parameters, so that ``%`` and ``:name`` have no special meaning."""
        # The server applies the time-out to each statement.
        total_ms = statement_ms * max(1, len(split_statements(sql, self.engine_name)))
        with self._translate_errors(driver, sql), self.enforce_timeout(driver, total_ms):
            driver.execute(sql)
            driver.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def run_outside_transaction(
        self,
        driver: Any,  # noqa: ANN401
        statement: SqlStatement,
        lock_ms: int,
        statement_ms: int,
    ) -> None:
        """Run it with the time-outs set for the session, and reset them."""
        driver.execute(f"SET lock_timeout = {lock_ms:d}")
        driver.execute(f"SET statement_timeout = {statement_ms:d}")
        with (
            self._translate_errors(driver, statement.text, statement.line - 1),
            self.enforce_timeout(driver, statement_ms),
        ):
            driver.execute(statement.text)
        driver.execute("RESET lock_timeout")
        driver.execute("RESET statement_timeout")

    def read_transaction(self, driver: Any) -> tuple[str, str] | None:  # noqa: ANN401
        """Return the transaction's id, so that COMMIT followed by BEGIN is detected.

        The state outside the database is the role, and the connection settings of the databases
        that it owns, on which fences depend.
        """
        from psycopg.pq import TransactionStatus

        if driver.info.transaction_status is not TransactionStatus.INTRANS:
            return None
        number, *environment = driver.execute(_TRANSACTION_QUERY).fetchone()
        return number, str(environment)

    @contextlib.contextmanager
    def enforce_timeout(self, driver: Any, statement_ms: int) -> Iterator[None]:  # noqa: ANN401
        """Terminate the session if the server's statement time-out has not ended it in time."""
        terminate = self._terminate
        if terminate is None:
            yield
            return
        ended = threading.Event()

        def stop(process: int) -> None:
            ended.set()
            terminate(process)

        seconds = statement_ms / 1000 + GRACE_S
        timer = threading.Timer(seconds, stop, [driver.info.backend_pid])
        timer.daemon = True
        timer.start()
        try:
            yield
        except self.error_type as error:
            if ended.is_set():
                raise StatementError(make_timeout_text(seconds)) from error
            raise
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _translate_errors(
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
            fault = self.classify_environment_fault(driver, error)
            raise StatementError(sanitize_error(error), line, fault) from error
