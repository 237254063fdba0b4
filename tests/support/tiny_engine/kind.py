"""What the agent asks before there is a database to ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.base import DatabaseEngine
from ncen_updater.agent.adapters.databases.engines import Ask, EngineKind
from ncen_updater.agent.adapters.databases.migrations.ledger import Tables, make_tables
from ncen_updater.agent.config.base import EngineSettings

if TYPE_CHECKING:
    from ncen_updater.agent.config.model import DatabaseSettings


class TinySettings(EngineSettings):
    """Its table."""

    paths = ("directory",)
    directory: Path

    @property
    def directory_on_disk(self) -> Path:
        """The same."""
        return self.directory


class TinyKind(EngineKind):
    """One table with one name in it."""

    first_settings = MappingProxyType({"directory": "srv/tiny"})
    text_columns = "columns"

    def make(
        self,
        config: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """Its adapter is of the module that is imported only here."""
        from tests.support.tiny_engine.engine import tiny_engine

        return tiny_engine(tuple(config.names))

    @property
    def tables(self) -> Tables:
        """As any engine without schemas has them."""
        return make_tables(None, "own_", "?", "integer", "exists")

    def limits(self, lock_ms: int, statement_ms: int, *, inside: bool) -> Sequence[str]:
        """None."""
        return ()

    def samples(
        self, ask: Ask, table: str, columns: Sequence[str], most: int
    ) -> tuple[str, Sequence[str]]:
        """All rows."""
        return ", ".join(columns), ("",)


KIND = TinyKind()
