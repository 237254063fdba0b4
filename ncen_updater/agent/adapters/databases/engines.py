"""Table of the database engines, each with its package and ``descriptor.py``.

A difference between engines belongs into :class:`EngineDescriptor` or
:class:`.base.DatabaseEngine`. ``tests/test_engines.py`` lists the places outside of an engine's
package that may name it. ``descriptor.py`` imports no driver, since some callers need none.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ncen_updater.agent.model.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.adapters.databases.migrations.ledger import LedgerTables
    from ncen_updater.agent.config.agent_config import DatabaseSettings

#: Packages by engine name, as used in the configuration, in manifests and in paths of releases.
ENGINES = {
    "postgresql": "ncen_updater.agent.adapters.databases.postgresql",
    "sqlite": "ncen_updater.agent.adapters.databases.sqlite",
}

#: Runs one SELECT in a database.
QueryFunction = Callable[[str], Sequence[Sequence[object]]]


class EngineDescriptor(abc.ABC):
    """Properties of an engine that are known without a connection: its factory and its SQL.

    Attributes:
        begin_statement: Statement that opens a transaction, in rendered plans.
        pre_commit_statements: Statements at the end of a migration's transaction, in rendered
            plans.
        server_directory: Directory below which the system's packages keep the server's files.
        text_columns_query: Query for (table, column, ...) of all columns that may hold personal
            text, both quoted, without the agent's own tables.
    """

    begin_statement: ClassVar[str] = "BEGIN;"
    pre_commit_statements: ClassVar[tuple[str, ...]] = ()
    server_directory: ClassVar[str | None] = None
    text_columns_query: ClassVar[str]

    @abc.abstractmethod
    def make_engine(
        self,
        settings: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """Return the adapter; see :func:`.engines.make_engine`."""

    @property
    @abc.abstractmethod
    def ledger_tables(self) -> LedgerTables:
        """Return the agent's own tables."""

    @abc.abstractmethod
    def format_timeouts(
        self, lock_ms: int, statement_ms: int, *, in_transaction: bool
    ) -> Sequence[str]:
        """Return the statements that set a migration's time-outs, for rendered plans.

        Args:
            lock_ms: Limit of the wait for a lock, in milliseconds.
            statement_ms: Limit of a statement, in milliseconds.
            in_transaction: Whether they run inside a transaction.
        """

    @abc.abstractmethod
    def build_sample_query(
        self, ask: QueryFunction, table: str, columns: Sequence[str], max_rows: int
    ) -> tuple[str, Sequence[str]]:
        """Return the select list, as text, and the clauses for a table's first and last rows.

        Args:
            ask: Queries the database.
            table: Quoted name, as in the result of ``text_columns_query``.
            columns: Quoted names, likewise.
            max_rows: Maximum number of rows per query.
        """


def get_engine_descriptor(name: str) -> EngineDescriptor:
    """Return the descriptor of an engine.

    Raises:
        KeyError: If there is no engine of this name.
    """
    descriptor = importlib.import_module(f"{ENGINES[name]}.descriptor").DESCRIPTOR
    assert isinstance(descriptor, EngineDescriptor)  # noqa: S101 - in every package
    return descriptor


def list_engine_modules() -> tuple[str, ...]:
    """Return the modules of the adapters; importing them imports the drivers."""
    return tuple(f"{package}.engine" for package in ENGINES.values())


def make_engine(
    settings: DatabaseSettings,
    root: Path | None = None,
    state_directory: Path | None = None,
    user: str | None = None,
) -> DatabaseEngine:
    """Return the adapter for the engine that the site uses. Opens no connection.

    Args:
        settings: The table ``[databases]`` of the agent's configuration.
        root: Directory that relative paths are below; absolute paths are used as they are.
        state_directory: The agent's own directory, to which only the agent writes.
        user: The system user of the application.

    Raises:
        DatabaseError: The engine is unknown or its table is missing; the configuration's model
            normally prevents this.
    """
    if settings.engine not in ENGINES or getattr(settings, settings.engine, None) is None:
        raise DatabaseError(database=settings.engine, detail="unsupported database engine")
    return get_engine_descriptor(settings.engine).make_engine(settings, root, state_directory, user)
