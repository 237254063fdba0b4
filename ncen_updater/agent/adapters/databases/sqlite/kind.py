"""SQLite before there is a file to ask: its settings, its adapter, its words."""

# ruff: noqa: S608 - the names in SQL are ours, or quoted by the library

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.engines import Ask, EngineKind
from ncen_updater.agent.config.engines import SqliteSettings

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.adapters.databases.migrations.ledger import Tables
    from ncen_updater.agent.config.model import DatabaseSettings

OWN_PREFIX = "ncen_updater_"
_WITH_ROWID = (
    "SELECT 1 FROM pragma_table_list WHERE '\"' || replace(name, '\"', '\"\"') || '\"' = '{}'"
    " AND wr = 0"
)


class SqliteKind(EngineKind):
    """SQLite."""

    first_settings = MappingProxyType({"directory": "srv/ncen/databases"})
    begin = "BEGIN IMMEDIATE;"
    text_columns = (
        "SELECT '\"' || replace(m.name, '\"', '\"\"') || '\"',"
        " '\"' || replace(p.name, '\"', '\"\"') || '\"', '' FROM sqlite_master m"
        " JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%'"
        f" ESCAPE '\\' AND m.name NOT LIKE '{OWN_PREFIX}%' ORDER BY 1, p.cid"
    )

    def make(
        self,
        config: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """See :meth:`EngineKind.make`."""
        from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine

        own = config.own
        assert isinstance(own, SqliteSettings)  # noqa: S101 - of this kind
        return SqliteEngine(
            root / own.directory if root else own.directory,
            tuple(config.names),
            config.migrator_environment,
            notes=state / "databases" if state else None,
            user=user,
        )

    @property
    def tables(self) -> Tables:
        """See :attr:`EngineKind.tables`."""
        from ncen_updater.agent.adapters.databases.sqlite.dialect import TABLES

        return TABLES

    def limits(self, lock_ms: int, statement_ms: int, *, inside: bool) -> Sequence[str]:
        """See :meth:`EngineKind.limits`."""
        del inside
        return [
            f"PRAGMA busy_timeout = {lock_ms};",
            f"-- each statement ends after {statement_ms} ms",
        ]

    def samples(
        self, ask: Ask, table: str, columns: Sequence[str], most: int
    ) -> tuple[str, Sequence[str]]:
        """See :meth:`EngineKind.samples`."""
        tails = [f"LIMIT {most}"]
        if ask(_WITH_ROWID.format(table.replace("'", "''"))):
            tails.append(f"ORDER BY rowid DESC LIMIT {most}")
        return ", ".join(columns), tails


KIND = SqliteKind()
