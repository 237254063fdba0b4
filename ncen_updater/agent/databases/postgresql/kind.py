"""PostgreSQL before there is a server to ask: its settings, its adapter, its words. No driver."""

# ruff: noqa: S608 - the names in SQL are ours, or quoted by the server

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ncen_updater.agent.config.base import EngineSettings, PhysicalName
from ncen_updater.agent.databases.engines import Ask, EngineKind

if TYPE_CHECKING:
    from ncen_updater.agent.config.model import DatabaseSettings
    from ncen_updater.agent.databases.base import DatabaseEngine
    from ncen_updater.agent.databases.migrations.ledger import Tables

OWN_SCHEMA = "ncen_updater"


class PostgresSettings(EngineSettings):
    """How the agent reaches PostgreSQL.

    Attributes:
        host: Directory of the server's socket, or a host name.
        user: The agent's role: CREATEDB and member of ``owner``, or a superuser.
        password_file: A libpq password file (mode 0600) where the server asks for a password.
        owner: The application's role; migrations run as it.
        application_roles: As which the application logs in, where that is not (only) ``owner``.
        control_database: A small database of the agent's own; made at the first use.
        bin_directory: Where ``pg_dump`` and ``pg_restore`` are; by default those of the server's
            version where packages put them.
        copy_method: ``auto`` chooses by size.
    """

    paths = ("password_file", "bin_directory")
    secrets = ("password_file",)

    host: str = "/var/run/postgresql"
    port: Annotated[int, Field(ge=1, le=65_535)] = 5432
    user: PhysicalName = "ncen_updater"
    password_file: Path | None = None
    owner: PhysicalName = "ncen"
    application_roles: tuple[PhysicalName, ...] = ()
    control_database: PhysicalName = "ncen_updater"
    bin_directory: Path | None = None
    copy_method: Literal["auto", "file-copy", "wal-log"] = "auto"

    @property
    def admitted(self) -> tuple[str, ...]:
        """Roles that may log in between cut-over and commit."""
        return self.application_roles or (self.owner,)


class PostgresKind(EngineKind):
    """PostgreSQL."""

    settings = PostgresSettings
    before_commit = ("SET CONSTRAINTS ALL IMMEDIATE;",)
    server_files = "var/lib/postgresql"  # Debian has all clusters below it
    text_columns = (
        "SELECT quote_ident(c.table_schema) || '.' || quote_ident(c.table_name),"
        " quote_ident(c.column_name), 'text' FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE t.table_type = 'BASE TABLE'"
        # What is in the agent's own schema is in the journal, and in the bundle on purpose. What is
        # parked in the schema of kept records is the application's.
        f" AND c.table_schema NOT IN ('pg_catalog', 'information_schema', '{OWN_SCHEMA}')"
        " AND (c.data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'ARRAY')"
        " OR c.data_type = 'USER-DEFINED') ORDER BY 1, c.ordinal_position"
    )

    def make(
        self,
        config: DatabaseSettings,
        root: Path | None,
        state: Path | None,
        user: str | None,
    ) -> DatabaseEngine:
        """See :meth:`EngineKind.make`."""
        from ncen_updater.agent.databases.postgresql.engine import PostgresEngine

        del root, state
        own = config.own
        assert isinstance(own, PostgresSettings)  # noqa: S101 - of this kind
        return PostgresEngine(
            own,
            config.names,
            migrator_environment=config.migrator_environment,
            user=user,
        )

    @property
    def tables(self) -> Tables:
        """See :attr:`EngineKind.tables`."""
        from ncen_updater.agent.databases.postgresql.dialect import TABLES

        return TABLES

    def limits(self, lock_ms: int, statement_ms: int, *, inside: bool) -> Sequence[str]:
        """See :meth:`EngineKind.limits`."""
        local = "LOCAL " if inside else ""
        return [
            f"SET {local}lock_timeout = {lock_ms};",
            f"SET {local}statement_timeout = {statement_ms};",
        ]

    def samples(
        self, ask: Ask, table: str, columns: Sequence[str], most: int
    ) -> tuple[str, Sequence[str]]:
        """See :meth:`EngineKind.samples`."""
        del ask
        # The last pages, without reading those before.
        name = table.replace("'", "''")
        last = (
            f"ctid >= format('(%s,0)', greatest(0, pg_relation_size('{name}'::regclass)"
            " / current_setting('block_size')::int - 20))::tid"
        )
        tails = [f"LIMIT {most}", f"WHERE {last} ORDER BY ctid DESC LIMIT {most}"]
        return ", ".join(f"{column}::text" for column in columns), tails


KIND = PostgresKind()
