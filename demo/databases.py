"""Make the databases of a fresh stand-in site, with the ledger right from the start.

PostgreSQL: an owner role ``ncen`` that the application and all migrations use, a role for the agent
with what it needs and no more (CREATEDB, member of the owner, ``pg_signal_backend``), settings and
a closed CONNECT privilege, as a careful national administrator would leave them. SQLite: the set of
files that the agent's adapter knows (``sets/base`` and the link ``live``).
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
from ncen_updater.agent.adapters.databases.base import ChangeRef, MigrationDirection
from ncen_updater.agent.adapters.databases.migrations.dialect import MigrationDialect
from ncen_updater.agent.adapters.databases.migrations.planner import (
    load_migrations,
    plan_database_migrations,
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
# The change that the ledger names for what the installation applied.
INSTALLATION = "install2"


@dataclass(frozen=True)
class PostgresPlace:
    """A server, and a superuser to prepare it with.

    Attributes:
        host: Directory of the socket, or host name.
        superuser: Only for making the site; neither application nor agent uses it.
        prefix: Begins the physical names, so that several sites fit on one server.
        owner: Role of the application.
        agent: Role of the agent.
        programs: Directory of ``pg_dump`` and ``pg_restore``; those of the path by default.
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
        """Logical to physical names."""
        return {name: f"{self.prefix}{name}" for name in DATABASES}

    def conninfo(self, database: str, user: str) -> str:
        """Return a libpq connection string for a physical database."""
        return f"host={self.host} port={self.port} user={user} dbname={database}"

    def address(self, name: str) -> str:
        """Return the connection string that the application uses for a logical name."""
        return self.conninfo(self.names[name], self.owner)


@dataclass(frozen=True)
class SqlitePlace:
    """A directory for the sets of files.

    Attributes:
        directory: Holds ``sets`` and the link ``live``.
    """

    directory: Path

    kind = "sqlite"

    @property
    def names(self) -> Mapping[str, str]:
        """Logical names, twice: files have no other."""
        return {name: name for name in DATABASES}

    def address(self, name: str) -> str:
        """Return the path that the application opens for a logical name."""
        return str(self.directory / "live" / f"{name}.sqlite")


SiteDatabases = PostgresPlace | SqlitePlace


def create_site_databases(place: SiteDatabases, *, release: str = "3.2.4") -> None:
    """Make the three databases with the schema of a release and no cases.

    Args:
        place: Where. The databases must not exist; the roles may.
        release: Whose migrations are applied through the agent's own runner.

    Raises:
        MigrationFailedError: If the release's own migrations do.
    """
    if isinstance(place, PostgresPlace):
        _create_postgres(place)
    else:
        _create_sqlite(place)
    with tempfile.TemporaryDirectory(prefix="nu-release-") as directory:
        apply_release(place, assemble(release, Path(directory) / release))


def apply_release(place: SiteDatabases, source: Path, origin: Path | None = None) -> None:
    """Bring the live databases themselves to a release, as an installation by hand would.

    Args:
        place: Where the databases are.
        source: Laid-out source of the release.
        origin: Laid-out source of the release that runs now, where the way leads down.
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
        plan = plan_database_migrations(
            name, runner.read_ledger(), target[name], old[name] if old else None
        )
        known = {(MigrationDirection.UP, item.migration.id): item for item in target[name]}
        known.update(
            {
                (MigrationDirection.DOWN, i.migration.id): i
                for i in (old[name] if old is not None else ())
            }
        )
        # Without the state row: a site that no agent has cut over yet has none.
        runner.run_plan(plan, known, change, SilentProgress())


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
            # Before 15 everybody may create there; the owner of the database has to be able to.
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
        # Writes the header, so that the file is a database and not an empty one.
        connection.execute("PRAGMA user_version = 1")
        connection.close()
    (place.directory / "live").symlink_to("sets/base")
