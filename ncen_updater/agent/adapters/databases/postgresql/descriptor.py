"""Descriptor of PostgreSQL: its settings, its adapter, its SQL. Imports no driver."""

# ruff: noqa: S608 - the names in SQL are ours, or quoted by the server

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.engines import EngineDescriptor, QueryFunction
from ncen_updater.agent.config.engines import PostgresSettings

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.adapters.databases.migrations.ledger import LedgerTables
    from ncen_updater.agent.config.agent_config import DatabaseSettings

AGENT_SCHEMA = "ncen_updater"


class PostgresDescriptor(EngineDescriptor):
    """Descriptor of PostgreSQL."""

    pre_commit_statements = ("SET CONSTRAINTS ALL IMMEDIATE;",)
    server_directory = "var/lib/postgresql"  # Debian's directory of all clusters
    text_columns_query = (
        "SELECT quote_ident(c.table_schema) || '.' || quote_ident(c.table_name),"
        " quote_ident(c.column_name), 'text' FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE t.table_type = 'BASE TABLE'"
        # The agent's own schema is excluded: its contents are in the journal, and in the bundle on
        # purpose. The schema of parked records is the application's.
        f" AND c.table_schema NOT IN ('pg_catalog', 'information_schema', '{AGENT_SCHEMA}')"
        " AND (c.data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'ARRAY')"
        " OR c.data_type = 'USER-DEFINED') ORDER BY 1, c.ordinal_position"
    )

    def make_engine(
        self,
        settings: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """See :meth:`EngineDescriptor.make_engine`."""
        from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine

        del root, state
        own = settings.engine_settings
        assert isinstance(own, PostgresSettings)  # noqa: S101 - of this kind
        return PostgresEngine(
            own,
            settings.names,
            migrator_environment=settings.migrator_environment,
            migrator_user=user,
        )

    @property
    def ledger_tables(self) -> LedgerTables:
        """See :attr:`EngineDescriptor.ledger_tables`."""
        from ncen_updater.agent.adapters.databases.postgresql.dialect import LEDGER_TABLES

        return LEDGER_TABLES

    def format_timeouts(
        self, lock_ms: int, statement_ms: int, *, in_transaction: bool
    ) -> Sequence[str]:
        """See :meth:`EngineDescriptor.format_timeouts`."""
        local = "LOCAL " if in_transaction else ""
        return [
            f"SET {local}lock_timeout = {lock_ms};",
            f"SET {local}statement_timeout = {statement_ms};",
        ]

    def build_sample_query(
        self, ask: QueryFunction, table: str, columns: Sequence[str], max_rows: int
    ) -> tuple[str, Sequence[str]]:
        """See :meth:`EngineDescriptor.build_sample_query`."""
        del ask
        # Reads the last pages without the pages before them.
        name = table.replace("'", "''")
        last = (
            f"ctid >= format('(%s,0)', greatest(0, pg_relation_size('{name}'::regclass)"
            " / current_setting('block_size')::int - 20))::tid"
        )
        tails = [f"LIMIT {max_rows}", f"WHERE {last} ORDER BY ctid DESC LIMIT {max_rows}"]
        return ", ".join(f"{column}::text" for column in columns), tails


DESCRIPTOR = PostgresDescriptor()
