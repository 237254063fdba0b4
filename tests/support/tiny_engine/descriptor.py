"""Facts that the agent reads about an engine before there is a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.base import DatabaseEngine
from ncen_updater.agent.adapters.databases.engines import EngineDescriptor, QueryFunction
from ncen_updater.agent.adapters.databases.migrations.ledger import (
    LedgerTables,
    build_ledger_tables,
)
from ncen_updater.agent.config.engines import EngineSettings

if TYPE_CHECKING:
    from ncen_updater.agent.config.agent_config import DatabaseSettings


class TinySettings(EngineSettings):
    """Its table."""

    directory: Path

    @property
    def local_directory(self) -> Path:
        """The same."""
        return self.directory


class TinyDescriptor(EngineDescriptor):
    """One table with one name in it."""

    text_columns_query = "columns"

    def make_engine(
        self,
        settings: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """Its adapter is of the module that is imported only here."""
        from tests.support.tiny_engine.engine import tiny_engine

        return tiny_engine(tuple(settings.names))

    @property
    def ledger_tables(self) -> LedgerTables:
        """As any engine without schemas has them."""
        return build_ledger_tables(None, "own_", "?", "integer", "exists")

    def format_timeouts(
        self, lock_ms: int, statement_ms: int, *, in_transaction: bool
    ) -> Sequence[str]:
        """None."""
        return ()

    def build_sample_query(
        self, ask: QueryFunction, table: str, columns: Sequence[str], max_rows: int
    ) -> tuple[str, Sequence[str]]:
        """All rows."""
        return ", ".join(columns), ("",)


DESCRIPTOR = TinyDescriptor()
