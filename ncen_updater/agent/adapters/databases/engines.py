"""Table of the database engines: a line each, which leads to the engine's ``descriptor.py``.

No other module compares the name of an engine: such a difference belongs into
:class:`EngineDescriptor` or :class:`.base.DatabaseEngine`. Its settings are in
``config/engines.py``. ``descriptor.py`` imports no driver, since some callers need none.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from ncen_updater.agent.model.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.adapters.databases.migrations.ledger import LedgerTables
    from ncen_updater.agent.config.agent_config import DatabaseSettings

#: Name in the configuration, in manifests and in paths of releases, to package. The first one is
#: what an installation gets that is not told otherwise.
ENGINES = {
    "postgresql": "ncen_updater.agent.adapters.databases.postgresql",
    "sqlite": "ncen_updater.agent.adapters.databases.sqlite",
}

#: Asks a database one SELECT.
QueryFunction = Callable[[str], Sequence[Sequence[object]]]


class EngineDescriptor(abc.ABC):
    """An engine before there is one to ask: how it is made, and its words of SQL.

    Attributes:
        initial_settings: What an installation writes into it.
        begin_statement: Opens a transaction, for eyes.
        pre_commit_statements: What a migration's transaction says at its end, for eyes.
        server_directory: Below which a server keeps its own files where the system's packages put
            them.
        text_columns_query: Asks for (table, column, ...) of all that may hold a person's words;
            both quoted, and none of them the agent's own.
    """

    initial_settings: ClassVar[Mapping[str, str]] = {}
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
        """Return the adapter; see :func:`.factory.make_engine`."""

    @property
    @abc.abstractmethod
    def ledger_tables(self) -> LedgerTables:
        """Return the agent's own tables."""

    @abc.abstractmethod
    def format_timeouts(
        self, lock_ms: int, statement_ms: int, *, in_transaction: bool
    ) -> Sequence[str]:
        """Return how a migration's time-outs are set, for eyes.

        Args:
            lock_ms: Milliseconds to wait for a lock.
            statement_ms: Milliseconds that a statement may run.
            in_transaction: Whether it is said inside a transaction.
        """

    @abc.abstractmethod
    def build_sample_query(
        self, ask: QueryFunction, table: str, columns: Sequence[str], max_rows: int
    ) -> tuple[str, Sequence[str]]:
        """Return the cells to select as text, and what chooses a table's first rows and its last.

        Args:
            ask: Asks the database.
            table: Quoted, as ``text_columns`` said it.
            columns: The same.
            max_rows: So many rows at a time.
        """


def get_engine_descriptor(name: str) -> EngineDescriptor:
    """Return what is to be known of an engine.

    Raises:
        KeyError: If there is none of this name.
    """
    found = importlib.import_module(f"{ENGINES[name]}.descriptor").KIND
    assert isinstance(found, EngineDescriptor)  # noqa: S101 - every package says so
    return found


def list_engine_modules() -> tuple[str, ...]:
    """Return the modules of the adapters, with which their drivers are imported."""
    return tuple(f"{package}.engine" for package in ENGINES.values())


def make_engine(
    settings: DatabaseSettings,
    root: Path | None = None,
    state_directory: Path | None = None,
    user: str | None = None,
) -> DatabaseEngine:
    """Return the adapter for the engine that the site uses. Connects to nothing.

    Args:
        settings: The table ``[databases]`` of the agent's configuration.
        root: Directory that relative paths are below; absolute ones stay as they are.
        state_directory: The agent's own directory, where nobody else writes.
        user: The system's user that the application runs as.

    Raises:
        DatabaseError: The engine's own table is missing, which the configuration's model refuses.
    """
    if settings.engine not in ENGINES or getattr(settings, settings.engine, None) is None:
        raise DatabaseError(database=settings.engine, detail="unsupported database engine")
    return get_engine_descriptor(settings.engine).make_engine(settings, root, state_directory, user)
