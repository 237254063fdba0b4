"""Settings of the database engines, by their names in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# 63 bytes less "__next_" and the eight characters of a change id.
PhysicalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,47}$")]


class BaseSettings(BaseModel):
    """Base of all tables: frozen, and strict about names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class EngineSettings(BaseSettings):
    """The table of one database engine.

    Attributes:
        path_settings: Its settings that are paths; relative ones are below the site's root.
        secret_file_settings: Those of them that nobody else may read.
    """

    path_settings: ClassVar[tuple[str, ...]] = ()
    secret_file_settings: ClassVar[tuple[str, ...]] = ()

    @property
    def local_directory(self) -> Path | None:
        """Return where the databases lie on a disk of this machine, if the agent knows."""
        return None


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

    path_settings = ("password_file", "bin_directory")
    secret_file_settings = ("password_file",)

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
    def connect_roles(self) -> tuple[str, ...]:
        """Roles that may log in between cut-over and commit."""
        return self.application_roles or (self.owner,)


class SqliteSettings(EngineSettings):
    """Where the SQLite files are.

    Attributes:
        directory: Holds the sets; the application opens ``<directory>/live/<name>.sqlite``.
    """

    path_settings = ("directory",)

    directory: Path

    @property
    def local_directory(self) -> Path:
        """Return the same."""
        return self.directory


#: Name of an engine in the configuration, in manifests and in paths of releases, to its table of
#: settings. The first one is what an installation gets that is not told otherwise.
ENGINE_SETTINGS: dict[str, type[EngineSettings]] = {
    "postgresql": PostgresSettings,
    "sqlite": SqliteSettings,
}
