"""Dialect of migrations on SQLite; see :mod:`.migrations.dialect`."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.dialect import (
    MigrationDialect,
    StatementError,
    make_timeout_text,
)
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    check_after_open,
    check_before_open,
)
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import DATABASE_DISK_FAILED, ErrorMessage
from ncen_updater.formats.dialects import ALLOWED_PRAGMAS, SqlStatement
from ncen_updater.formats.sql import split_statements

LEDGER_TABLES = ledger.build_ledger_tables(
    None,
    ledger.AGENT_PREFIX,
    "?",
    "integer PRIMARY KEY AUTOINCREMENT",
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'ncen_updater_ledger'",
)

# Errors of the disk, whatever the statement was; NOMEM is one of the machine.
_DISK_ERROR_CODES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}
)
# Number of virtual instructions between two checks of the clock (SQLite's progress handler).
CLOCK_INSTRUCTIONS = 20_000


class SqliteDialect(MigrationDialect):
    """SQLite through the standard library.

    Args:
        path: The database file, which must exist.
        clock: Monotonic seconds, for the time-outs.
    """

    engine_name = "sqlite"
    ledger_tables = LEDGER_TABLES

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock

    @property
    def error_type(self) -> type[sqlite3.Error]:
        """Return the exception type of sqlite3."""
        return sqlite3.Error

    def classify_environment_fault(self, driver: Any, error: Exception) -> ErrorMessage | None:  # noqa: ANN401
        """Classify by the library's error code: a full disk, or one that fails."""
        del driver
        code = getattr(error, "sqlite_errorcode", None)
        return (
            DATABASE_DISK_FAILED
            if isinstance(code, int) and code & 0xFF in _DISK_ERROR_CODES
            else None
        )

    def connect(self) -> sqlite3.Connection:
        """Open the file.

        Raises:
            NotRegularFileError: It is a link, or not a regular file.
        """
        check_before_open(self._path, applies_journal=True)
        # isolation_level None: the driver begins and commits no transaction itself.
        driver = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        check_after_open(driver, self._path)
        # Off, whatever the library's default is: recreating a table drops it in between, which
        # would delete the rows that refer to it. Violations are counted instead, see
        # count_dangling_references.
        driver.execute("PRAGMA foreign_keys = OFF")
        # Migrations used floor() through SQLAlchemy, and their down migrations may still need it.
        # REGEXP is not offered: nothing could stop a pattern of Python on a value made for that
        # purpose.
        driver.create_function("floor", 1, math.floor, deterministic=True)
        return driver

    @contextlib.contextmanager
    def open_transaction(self, driver: Any) -> Iterator[None]:  # noqa: ANN401
        """Begin with the file's lock; schema changes in the block are part of the transaction."""
        driver.execute("BEGIN IMMEDIATE")
        with driver:
            yield

    def set_lock_timeout(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Set the lock time-out before a transaction, which begins with the file's lock."""
        driver.execute(f"PRAGMA busy_timeout = {lock_ms:d}")

    def count_dangling_references(self, driver: Any) -> Counter[tuple[str, str]]:  # noqa: ANN401
        """Run ``PRAGMA foreign_key_check`` for each table."""
        found: Counter[tuple[str, str]] = Counter()
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
        for (table,) in driver.execute(tables).fetchall():
            name = str(table).replace('"', '""')
            try:
                for row in driver.execute(f'PRAGMA foreign_key_check("{name}")'):
                    found[str(table), str(row[2])] += 1
            except sqlite3.OperationalError as error:
                # A foreign key to columns that are not unique: its rows cannot be checked.
                if "foreign key mismatch" not in str(error):
                    raise
                found[str(table), str(error)] += 1
        return found

    def create_ledger_tables(self, driver: Any, lock_ms: int) -> None:  # noqa: ANN401
        """Create the tables with the prefix ``ncen_updater_``."""
        self.set_lock_timeout(driver, lock_ms)
        driver.execute("PRAGMA synchronous = FULL")
        with self.open_transaction(driver):
            for statement in self.ledger_tables.create:
                driver.execute(statement)

    def set_timeouts(self, driver: Any, lock_ms: int, statement_ms: int) -> None:  # noqa: ANN401
        """Set the limit of the wait for the file's lock; :meth:`enforce_timeout` does the rest."""
        del statement_ms
        self.set_lock_timeout(driver, lock_ms)

    def run_file(self, driver: Any, sql: str, statement_ms: int) -> None:  # noqa: ANN401
        """Run the statements one by one, since the driver's executescript would commit first."""
        for statement in split_statements(sql, self.engine_name):
            self._run(driver, statement, statement_ms)

    def run_outside_transaction(
        self,
        driver: Any,  # noqa: ANN401
        statement: SqlStatement,
        lock_ms: int,
        statement_ms: int,
    ) -> None:
        """Run it outside BEGIN, where the library commits each statement itself."""
        self.set_timeouts(driver, lock_ms, statement_ms)
        self._run(driver, statement, statement_ms)

    def _run(self, driver: sqlite3.Connection, statement: SqlStatement, statement_ms: int) -> None:
        # VACUUM attaches a database and opens a transaction itself; as the only word it is
        # harmless.
        if statement.words != ("VACUUM",):
            driver.set_authorizer(_authorize)
        try:
            with self.enforce_timeout(driver, statement_ms):
                driver.execute(statement.text).fetchall()
        except sqlite3.Error as error:
            message: LazyText | str = sanitize_error(error)
            if message == "interrupted":
                message = make_timeout_text(statement_ms / 1000)
            raise StatementError(
                message, statement.line, self.classify_environment_fault(driver, error)
            ) from error
        finally:
            driver.set_authorizer(None)

    def read_transaction(self, driver: Any) -> tuple[str, str] | None:  # noqa: ANN401
        """Return a constant: the library refuses transaction control, see ``_authorize``."""
        return ("open", "") if driver.in_transaction else None

    @contextlib.contextmanager
    def enforce_timeout(self, driver: Any, statement_ms: int) -> Iterator[None]:  # noqa: ANN401
        """Interrupt the statement when its time is over."""
        deadline = self._clock() + statement_ms / 1000
        driver.set_progress_handler(lambda: int(self._clock() > deadline), CLOCK_INSTRUCTIONS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)


_DENIED_ACTIONS: Sequence[int] = (
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_ATTACH,
    sqlite3.SQLITE_DETACH,
)


def _authorize(action: int, one: str | None, *_: str | None) -> int:
    if action in _DENIED_ACTIONS and not (action == sqlite3.SQLITE_ATTACH and not one):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (one or "").lower() not in ALLOWED_PRAGMAS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
