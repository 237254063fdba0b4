"""Settings of the database engines, by their names in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_

# PostgreSQL's 63 bytes minus "__next_" and the eight characters of a change id.
PhysicalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,47}$")]


def _require_host(url: str) -> str:
    """Refuse an address without a host, or that cannot be split into its parts."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidValueError(N_("no valid host or port in the URL"))
    return url


WebAddress = Annotated[
    str, StringConstraints(pattern=r"^https?://[!-~]{1,2000}$"), AfterValidator(_require_host)
]


class BaseSettings(BaseModel):
    """Base of all tables: frozen, and refuses unknown settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class EngineSettings(BaseSettings):
    """Settings of one database engine.

    Attributes:
        secret_file_settings: Names of paths to files that only the owner may read.
    """

    secret_file_settings: ClassVar[tuple[str, ...]] = ()

    @property
    def local_directory(self) -> Path | None:
        """Return the databases' directory on this machine, if the agent knows it."""
        return None


class PostgresSettings(EngineSettings):
    """Settings of PostgreSQL.

    Attributes:
        host: Directory of the server's socket, or a host name.
        user: The agent's role: with CREATEDB and member of ``owner``, or a superuser.
        password_file: A libpq password file (mode 0600), if the server requires a password.
        owner: The application's role; migrations run as this role.
        application_roles: Login roles of the application, if not (only) ``owner``.
        control_database: The agent's own small database; created on first use.
        bin_directory: Directory of ``pg_dump`` and ``pg_restore``; by default where packages
            install those of the server's version.
        copy_method: ``auto`` chooses by size.
    """

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
        """Return the roles that may connect between cut-over and commit."""
        return self.application_roles or (self.owner,)


class SqliteSettings(EngineSettings):
    """Settings of SQLite.

    Attributes:
        directory: Directory of the sets; the application opens ``<directory>/live/<name>.sqlite``.
    """

    directory: Path

    @property
    def local_directory(self) -> Path:
        """Return the directory of the sets."""
        return self.directory


#: Engine settings by the engine's name in the configuration, in manifests and in paths of releases.
#: The first one is the default of an installation.
ENGINE_SETTINGS: dict[str, type[EngineSettings]] = {
    "postgresql": PostgresSettings,
    "sqlite": SqliteSettings,
}
