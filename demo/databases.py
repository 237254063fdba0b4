"""Create the databases of a new stand-in site, including the migration ledger.

PostgreSQL: an owner role ``ncen``, used by the application and all migrations; an agent role with
only the rights that it needs (CREATEDB, member of the owner, ``pg_signal_backend``); database
settings and restricted CONNECT privileges, as a careful administrator would configure. SQLite: the
set of files that the agent's adapter expects (``sets/base`` and the link ``live``).
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.releases import assemble
from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.migrations.dialect import MigrationDialect
from ncen_updater.agent.adapters.databases.migrations.planner import (
    load_migrations,
)
from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
from ncen_updater.agent.adapters.databases.postgresql.dialect import PostgresDialect
from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import load_manifest

if TYPE_CHECKING:
    import psycopg

DATABASES = ("seizures", "suspects", "companies")
OWNER_ROLE = "ncen"
AGENT_ROLE = "ncen_updater"
# Change id recorded in the ledger for the migrations of the installation.
INSTALLATION = "install2"


@dataclass(frozen=True)
class PostgresPlace:
    """PostgreSQL server, with a superuser to prepare it.

    Attributes:
        host: Directory of the socket, or host name.
        superuser: Used only to create the site, by neither application nor agent.
        prefix: Prefix of physical names, so that one server can hold several sites.
        owner: Role of the application.
        agent: Role of the agent.
        programs: Directory of ``pg_dump`` and ``pg_restore``; by default from PATH.
    """

    host: str
    port: int = 5432
    superuser: str = "postgres"
    prefix: str = "ncen_"
    owner: str = OWNER_ROLE
    agent: str = AGENT_ROLE
    programs: Path | None = None

    kind = "postgresql"

    @property
    def names(self) -> Mapping[str, str]:
        """Map logical to physical names."""
        return {name: f"{self.prefix}{name}" for name in DATABASES}

    def conninfo(self, database: str, user: str) -> str:
        """Return a libpq connection string for a physical database."""
        return f"host={self.host} port={self.port} user={user} dbname={database}"

    def address(self, name: str) -> str:
        """Return the connection string that the application uses for a logical name."""
        return self.conninfo(self.names[name], self.owner)


@dataclass(frozen=True)
class SqlitePlace:
    """Directory of SQLite databases.

    Attributes:
        directory: Contains ``sets`` and the link ``live``.
    """

    directory: Path

    kind = "sqlite"

    @property
    def names(self) -> Mapping[str, str]:
        """Map logical names to themselves: files have no other names."""
        return {name: name for name in DATABASES}

    def address(self, name: str) -> str:
        """Return the path that the application opens for a logical name."""
        return str(self.directory / "live" / f"{name}.sqlite")


SiteDatabases = PostgresPlace | SqlitePlace


def create_site_databases(place: SiteDatabases, *, release: str = "3.2.4") -> None:
    """Create the three databases with the schema of a release and no cases.

    Args:
        place: Location. The databases must not exist; the roles may.
        release: Release whose migrations are applied, with the agent's own runner.

    Raises:
        MigrationFailedError: If a migration fails.
    """
    if isinstance(place, PostgresPlace):
        _create_postgres(place)
    else:
        _create_sqlite(place)
    with tempfile.TemporaryDirectory(prefix="nu-release-") as directory:
        apply_release(place, assemble(release, Path(directory) / release))


def apply_release(place: SiteDatabases, source: Path, origin: Path | None = None) -> None:
    """Migrate the live databases in place to a release, like a manual installation.

    Args:
        place: Location of the databases.
        source: Laid-out source of the release.
        origin: Laid-out source of the running release, for a migration down.
    """
    manifest = load_manifest(source / "manifest.toml")
    target = load_migrations(manifest, source, place.kind, None).databases
    old = None
    if origin is not None:
        old_manifest = load_manifest(origin / "manifest.toml")
        old = load_migrations(old_manifest, origin, place.kind, None).databases
    change = ChangeRef(INSTALLATION, 0, manifest.version)
    for name in DATABASES:
        runner = MigrationRunner(_dialect(place, name), name)
        runner.migrate(change, target[name], old[name] if old else None, SilentProgress())
        runner.delete_state()  # such a site never had a cut-over by an agent


def _dialect(place: SiteDatabases, name: str) -> MigrationDialect:
    if isinstance(place, PostgresPlace):
        return PostgresDialect(_opener(place.address(name)))
    return SqliteDialect(Path(place.address(name)))


def _opener(conninfo: str) -> Callable[[], psycopg.Connection[Any]]:
    import psycopg

    return lambda: psycopg.connect(conninfo, autocommit=True)


def _create_postgres(place: PostgresPlace) -> None:
    from psycopg import sql

    names = {
        "owner": sql.Identifier(place.owner),
        "agent": sql.Identifier(place.agent),
    }
    with _superuser(place, "postgres") as connection:
        for role, options in ((place.owner, "LOGIN"), (place.agent, "LOGIN CREATEDB")):
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
            if known.fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE ROLE {} " + options).format(sql.Identifier(role))
                )
        connection.execute(
            sql.SQL(
                "GRANT {owner}, pg_signal_backend, pg_read_all_settings, pg_read_all_stats"
                " TO {agent}"
            ).format(**names)
        )
        for physical in place.names.values():
            database = sql.Identifier(physical)
            for statement in (
                "CREATE DATABASE {database} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'",
                "REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC",
                "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {owner}",
                "ALTER DATABASE {database} SET timezone = 'UTC'",
                "ALTER DATABASE {database} SET search_path = public",
                "ALTER DATABASE {database} CONNECTION LIMIT 60",
                "COMMENT ON DATABASE {database} IS 'Stand-in nCEN'",
            ):
                connection.execute(sql.SQL(statement).format(database=database, **names))
    for physical in place.names.values():
        with _superuser(place, physical) as connection:
            # Before PostgreSQL 15 all users may create objects here; the owner must be able to.
            connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {owner}").format(**names))


@contextmanager
def _superuser(place: PostgresPlace, database: str) -> Iterator[psycopg.Connection[Any]]:
    import psycopg

    conninfo = place.conninfo(database, place.superuser)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


def _create_sqlite(place: SqlitePlace) -> None:
    base = place.directory / "sets" / "base"
    base.mkdir(parents=True)
    for name in DATABASES:
        connection = sqlite3.connect(base / f"{name}.sqlite")
        # Write the header, so that the file is a valid database.
        connection.execute("PRAGMA user_version = 1")
        connection.close()
    (place.directory / "live").symlink_to("sets/base")
