"""A small site: two databases with awkward attributes, and an agent to work on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase, TableDigest
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseAttributes,
    read_attributes,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import ServerTimeouts
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.config.engines import PostgresSettings
from tests.support.postgres import available

# For what no version does differently: on the newest server alone, so that the suite stays fast.
NEWEST = pytest.mark.parametrize(
    "postgres", available()[-1:], indirect=True, ids=lambda binaries: f"pg{binaries.major}"
)
AGENT = "agent"
OWNER = "ncen"
LIMITS = ServerTimeouts(
    connect_s=5, lock_s=8, statement_s=30, long_s=60, terminate_s=10, recovery_s=30
)
CHANGE = ChangeRef("abcdefgh", 2, "3.3.0")

Seen = tuple[DatabaseAttributes, int, bool, str | None, dict[str, TableDigest]]
Snapshot = dict[str, Seen]


@dataclass
class Site:
    """One server with the live databases of a site on it."""

    server: EmbeddedPostgres
    user: str = "postgres"
    names: Mapping[str, str] = field(
        default_factory=lambda: {"seizure": "t_seizure", "suspect": 'T"suspect'}
    )

    def sql(self, database: str, *statements: str, user: str | None = None) -> list[Any]:
        """Run statements as the server's superuser; rows of the last one."""
        rows: list[Any] = []
        with psycopg.connect(
            self.server.conninfo(),
            dbname=database,
            user=user,
            autocommit=True,
            client_encoding="UTF8",
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def engine(self, **overrides: Any) -> PostgresEngine:
        """An agent."""
        settings = PostgresSettings(
            host=str(self.server.host),
            port=self.server.port,
            user=self.user,
            owner=overrides.pop("owner", OWNER),
            control_database="t_control",
            bin_directory=overrides.pop("bin_directory", self.server.binaries.directory),
            copy_method=overrides.pop("copy_method", "auto"),
        )
        overrides.setdefault("timeouts", LIMITS)
        return PostgresEngine(settings, self.names, **overrides)

    def build(self) -> None:
        """Make roles and databases again."""
        self.clear()
        for role in (OWNER, "app ro", 'Weird"Role'):
            self.sql("postgres", f"CREATE ROLE {quoted(role)} LOGIN")
        self.sql(
            "postgres",
            f"CREATE ROLE {AGENT} LOGIN CREATEDB IN ROLE {OWNER}, pg_signal_backend,"
            " pg_read_all_stats",
        )
        if self.user == AGENT:
            # So that the agent may carry over the settings of roles.
            self.sql(
                "postgres",
                f"ALTER ROLE {AGENT} CREATEROLE",
            )
            if self.server.binaries.major >= 15:
                self.sql("postgres", f"GRANT SET ON PARAMETER myapp.mode TO {AGENT}")
            if self.server.binaries.major >= 16:
                for role in ("app ro", 'Weird"Role'):
                    self.sql("postgres", f"GRANT {quoted(role)} TO {AGENT} WITH ADMIN OPTION")
        for number, physical in enumerate(self.names.values()):
            name = quoted(physical)
            self.sql("postgres", f"CREATE DATABASE {name} OWNER {OWNER}")
            self.sql(
                "postgres",
                f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
                f'GRANT CONNECT ON DATABASE {name} TO "app ro", {OWNER}',
                f'GRANT CONNECT, TEMP ON DATABASE {name} TO "Weird""Role" WITH GRANT OPTION',
                f"ALTER DATABASE {name} CONNECTION LIMIT {40 + number}",
                f"ALTER DATABASE {name} SET search_path TO '$user', public, 'my schema'",
                f"ALTER ROLE \"app ro\" IN DATABASE {name} SET statement_timeout = '5min'",
                f'ALTER ROLE "Weird""Role" IN DATABASE {name} SET search_path = \'\'',
                f"COMMENT ON DATABASE {name} IS 'the operator''s words\nin two lines'",
            )
            if self.user != AGENT or self.server.binaries.major >= 15:
                # 14 lets none but superusers set what an application calls its own.
                self.sql("postgres", f"ALTER DATABASE {name} SET myapp.mode = 'it''s \\ on'")
            self.sql(
                physical,
                f"SET ROLE {OWNER}",
                "CREATE TABLE cases (id int PRIMARY KEY, what text NOT NULL, at timestamptz)",
                "INSERT INTO cases SELECT i, repeat('case ' || i, 20), '2026-01-01'"
                " FROM generate_series(1, 500) i",
                "CREATE INDEX ON cases (what)",
                "CREATE TABLE loose (a text)",
                "INSERT INTO loose VALUES ('x'), ('x'), (NULL)",
                "CREATE VIEW firsts AS SELECT * FROM cases WHERE id < 10",
            )

    def clear(self) -> None:
        """Drop everything that a test may have left."""
        for gid, database in self.sql("postgres", "SELECT gid, database FROM pg_prepared_xacts"):
            self.sql(database, f"ROLLBACK PREPARED '{gid}'")
        for slot in self.sql("postgres", "SELECT slot_name FROM pg_replication_slots"):
            self.sql("postgres", f"SELECT pg_drop_replication_slot('{slot[0]}')")
        for name, limit in self.sql(
            "postgres",
            "SELECT datname, datconnlimit FROM pg_database"
            " WHERE datname NOT IN ('postgres', 'template0', 'template1')",
        ):
            if limit != -2:
                self.sql("postgres", f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false")
                self.sql("postgres", f"DROP DATABASE {quoted(name)} WITH (FORCE)")
            else:
                self.sql("postgres", f"DROP DATABASE {quoted(name)}")
        for (role,) in self.sql(
            "postgres", "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper"
        ):
            self.sql("postgres", f"DROP OWNED BY {quoted(role)}", f"DROP ROLE {quoted(role)}")

    def snapshot(self) -> Snapshot:
        """Everything about the live set that must come back, read without the agent."""
        seen: Snapshot = {}
        for physical in self.names.values():
            (limit, allow, comment), *_ = self.sql(
                "postgres",
                "SELECT datconnlimit, datallowconn, shobj_description(oid, 'pg_database')"
                f" FROM pg_database WHERE datname = '{physical}'",
            )
            with psycopg.connect(self.server.conninfo()) as connection:
                attributes = read_attributes(connection, physical)
            seen[physical] = (attributes, limit, allow, comment, self.digests(physical))
        return seen

    def digests(self, physical: str) -> dict[str, TableDigest]:
        """Digests of a live database, by way of the adapter, as who may read everything."""
        engine = Site(self.server, names={"x": physical}).engine(owner="postgres")
        return engine.compute_table_digests(LiveDatabase("x"))

    def databases(self) -> set[str]:
        """Names of all databases that belong to the site, in any role."""
        found = self.sql("postgres", "SELECT datname FROM pg_database")
        known = ("postgres", "template0", "template1", "t_control")
        return {name for (name,) in found if name not in known}


def need_chosen_numbers(site: Site) -> None:
    """Skip where the server does not permit choosing the object id of a database."""
    if site.server.binaries.major < 15:
        pytest.skip("PostgreSQL 14 chooses the object ids of databases itself")


def quoted(name: str) -> str:
    """A name in double quotes."""
    return '"' + name.replace('"', '""') + '"'
