"""Descriptor of SQLite: its settings, its adapter, its SQL."""

# ruff: noqa: S608 - the names in SQL are ours, or quoted by the library

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.engines import EngineDescriptor, QueryFunction
from ncen_updater.agent.config.engines import SqliteSettings

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.adapters.databases.migrations.ledger import LedgerTables
    from ncen_updater.agent.config.agent_config import DatabaseSettings

AGENT_PREFIX = "ncen_updater_"
_WITH_ROWID = (
    "SELECT 1 FROM pragma_table_list WHERE '\"' || replace(name, '\"', '\"\"') || '\"' = '{}'"
    " AND wr = 0"
)


class SqliteDescriptor(EngineDescriptor):
    """Descriptor of SQLite."""

    begin_statement = "BEGIN IMMEDIATE;"
    text_columns_query = (
        "SELECT '\"' || replace(m.name, '\"', '\"\"') || '\"',"
        " '\"' || replace(p.name, '\"', '\"\"') || '\"', '' FROM sqlite_master m"
        " JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%'"
        f" ESCAPE '\\' AND m.name NOT LIKE '{AGENT_PREFIX}%' ORDER BY 1, p.cid"
    )

    def make_engine(
        self,
        settings: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """See :meth:`EngineDescriptor.make_engine`."""
        from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine

        own = settings.engine_settings
        assert isinstance(own, SqliteSettings)  # noqa: S101 - of this kind
        return SqliteEngine(
            root / own.directory if root else own.directory,
            tuple(settings.names),
            settings.migrator_environment,
            records_directory=state / "databases" if state else None,
            migrator_user=user,
        )

    @property
    def ledger_tables(self) -> LedgerTables:
        """See :attr:`EngineDescriptor.ledger_tables`."""
        from ncen_updater.agent.adapters.databases.sqlite.dialect import LEDGER_TABLES

        return LEDGER_TABLES

    def format_timeouts(
        self, lock_ms: int, statement_ms: int, *, in_transaction: bool
    ) -> Sequence[str]:
        """See :meth:`EngineDescriptor.format_timeouts`."""
        del in_transaction
        return [
            f"PRAGMA busy_timeout = {lock_ms};",
            f"-- each statement ends after {statement_ms} ms",
        ]

    def build_sample_query(
        self, ask: QueryFunction, table: str, columns: Sequence[str], max_rows: int
    ) -> tuple[str, Sequence[str]]:
        """See :meth:`EngineDescriptor.build_sample_query`."""
        tails = [f"LIMIT {max_rows}"]
        if ask(_WITH_ROWID.format(table.replace("'", "''"))):
            tails.append(f"ORDER BY rowid DESC LIMIT {max_rows}")
        return ", ".join(columns), tails


DESCRIPTOR = SqliteDescriptor()
