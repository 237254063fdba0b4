"""Models of ``agent.toml``; docs/reference/configuration.md explains each setting."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from ncen_updater.agent.config.engines import (
    ENGINE_SETTINGS,
    BaseSettings,
    EngineSettings,
    PhysicalName,
    WebAddress,
)
from ncen_updater.agent.config.service import (
    MetricsSettings,
    NotifySettings,
    ServiceSettings,
    WindowSettings,
)
from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_
from ncen_updater.formats.manifest import Channel, Country, Identifier, ProductName, SiteId

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
Argv = Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[!-~]([ -~]{0,500}[!-~])?$")]
#: Headers that may not be set: secrets have their own file, and others control the connection.
FORBIDDEN_HEADERS = frozenset(
    {"authorization", "connection", "content-length", "cookie", "expect", "proxy-authorization",
     "te", "transfer-encoding", "upgrade"}
)  # fmt: skip


class SiteSettings(BaseSettings):
    """Identity of the site, for countries and rollout waves.

    Attributes:
        id: Unique id of the site.
        country: ISO 3166-1 alpha-2, upper case.
        contact: Person to ask, with a telephone number; shown with errors that need help.
    """

    id: SiteId
    country: Country
    product: ProductName = "ncen"
    channel: Channel = Channel.STABLE
    # A repetition count in the pattern (``{1,200}``) would cost 15 MB of memory in each process.
    contact: (
        Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\P{C}+$")] | None
    ) = None


class FeedSettings(BaseSettings):
    """Address and limits of the signed feed.

    Attributes:
        offline: Whether releases come only from imported bundles, and no address is used.
        urls: Base addresses of the same feed, tried in order; at least one unless offline.
        offline_grace_days: How long metadata of an imported bundle is accepted after it expires.
        mirror_grace_days: The same for ``urls``, for sites behind a mirror updated from bundles.
        timeout_s: Seconds without a byte after which a connection is given up.
        minimum_bytes_per_s: A transfer slower than this over half a minute is given up.
        max_bytes_per_s: Rate limit of downloads; none by default.
        full_speed_windows: Hours in which the rate limit does not apply.
        proxy: ``http://host:port`` of a proxy, if needed.
        ca_file: Certificates of a private certificate authority.
        client_certificate: PEM file with certificate and key for mutual TLS.
    """

    offline: Annotated[bool, Field(strict=True)] = False
    urls: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")], ...],
        Field(validate_default=True),
    ] = ()
    offline_grace_days: Annotated[int, Field(ge=0, le=180)] = 90
    mirror_grace_days: Annotated[int, Field(ge=0, le=180)] = 0
    timeout_s: Seconds = 30.0
    minimum_bytes_per_s: Annotated[int, Field(ge=1)] = 200
    max_bytes_per_s: Annotated[int, Field(ge=1024)] | None = None
    full_speed_windows: tuple[WindowSettings, ...] = ()
    proxy: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")] | None = None
    ca_file: Path | None = None
    client_certificate: Path | None = None

    @field_validator("urls")
    @classmethod
    def _require_source(cls, urls: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not urls and not info.data.get("offline", False):
            raise ValueError("missing or empty: set at least one URL, or 'offline = true'")
        return urls


class DatabaseSettings(BaseSettings):
    """The databases of the site.

    Attributes:
        engine: A name of :data:`.engines.ENGINE_SETTINGS`; its settings are in the table of the
            same name.
        names: Server's database names by logical name, for engines with a server.
        migrator_environment: Additional environment variables of the application's own migrator.
    """

    engine: str
    names: Annotated[dict[Identifier, PhysicalName], Field(min_length=1)]
    migrator_environment: Annotated[dict[str, str], Field(default_factory=dict)]

    @property
    def engine_settings(self) -> EngineSettings:
        """Return the settings of the engine in use.

        Raises:
            LookupError: If there are none, which validation refuses.
        """
        found = getattr(self, self.engine, None)
        if not isinstance(found, EngineSettings):
            raise LookupError(self.engine)
        return found

    @model_validator(mode="after")
    def _require_engine_table(self) -> DatabaseSettings:
        if getattr(self, self.engine) is None:
            raise InvalidValueError(N_("missing table [databases.{engine}]"), engine=self.engine)
        if len(set(self.names.values())) != len(self.names):
            raise ValueError("two names refer to the same database")
        return self


if not TYPE_CHECKING:
    # Static description: the table has one field per engine.
    DatabaseSettings = create_model(
        "DatabaseSettings",
        __base__=DatabaseSettings,
        __module__=__name__,
        engine=(Literal[tuple(ENGINE_SETTINGS)], ...),
        **{name: (settings | None, None) for name, settings in ENGINE_SETTINGS.items()},
    )


class SiteFilesSettings(BaseSettings):
    """One directory of site files, which every release uses.

    Attributes:
        name: Name in manifests, such as ``photographs``.
        directory: Its path, without symbolic links; it must contain no other files.
        snapshot_method: ``auto`` hard-links every file for the time of a change, or clones it if
            the file system can; ``copy`` copies all bytes if it cannot clone.
    """

    name: Identifier
    directory: Path
    snapshot_method: Literal["auto", "copy"] = "auto"

    @field_validator("directory")
    @classmethod
    def _require_plain_path(cls, directory: Path) -> Path:
        if "\0" in str(directory) or ".." in directory.parts or len(directory.parts) < 2:
            raise ValueError("use a plain path to one directory")
        return directory


class OverlaySettings(BaseSettings):
    """The country's local overlay of texts and settings.

    Attributes:
        directory: The country's files, at the paths of ``[[overlays]]``; the agent only reads them.
        merged: Directory of the merged files; the application reads them below ``current`` in it.
    """

    directory: Path
    merged: Path = Path("opt/ncen/overlay")


class ControlSettings(BaseSettings):
    """How the application or a part of it is started, stopped and checked.

    Attributes:
        unit: Name of its systemd unit.
        start: Command that starts the release in ``current`` and returns.
        stop: Command that returns when it has stopped.
        status: Command with exit status 0 if it runs, 3 if it does not.
    """

    unit: str | None = None
    start: Argv | None = None
    stop: Argv | None = None
    status: Argv | None = None


class PartSettings(ControlSettings):
    """A further part of the application: a worker, a scheduler, an import program.

    Attributes:
        name: Name for messages.
        start_after_maintenance: Whether to start it only after the commit, because until then all
            its effects may be undone.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$")]
    start_after_maintenance: Annotated[bool, Field(strict=True)] = False


class ApplicationSettings(ControlSettings):
    """How the application is run.

    Attributes:
        adapter: ``systemd`` (unit) or ``command`` (start, stop, status).
        user: System user of the application; a release's own migrator runs as this user, too.
        environment: Additional environment variables of the three commands.
        stop_timeout_s: Seconds after which a stop has failed.
        health_url: Base address of the application's own port, not of the maintenance page.
        public_url: An address of the web server in front, checked for the maintenance page while
            the page is on; not checked if omitted.
        health_path: Endpoint that reports the version, as a JSON object.
        version_field: Field of the endpoint's JSON that holds the version.
        version_pattern: For an endpoint without JSON: regular expression whose one group is the
            version.
        version_command: Command that prints the running version, for an application without an
            endpoint for it; only the HTTP status of the endpoint is then used.
        health_headers: Headers of each health request; no secrets.
        health_token_file: File (mode 0600) with a token, sent as ``Authorization``.
        health_token_scheme: Scheme before the token; ``Bearer`` by default.
        schema_field: Field of the endpoint's JSON that holds the release of the databases, if any.
        write_probe_field: Field of the endpoint's JSON that is true if every database accepted a
            write, if any.
        health_timeout_s: Maximum seconds from start to healthy.
        probe_timeout_s: Maximum seconds of one request.
        maintenance_file: While this file exists, the web server shows the maintenance page.
        parts: Further parts, which have no health check, in the order in which they start.
    """

    adapter: Literal["command", "systemd"] = "systemd"
    user: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = None
    environment: Annotated[dict[str, str], Field(default_factory=dict)]
    stop_timeout_s: Seconds = 60.0
    health_url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")]
    public_url: WebAddress | None = None
    health_path: Annotated[str, StringConstraints(pattern=r"^/[!-~]{0,300}$")] = "/healthz"
    version_field: str = "version"
    version_pattern: Annotated[str, StringConstraints(max_length=200)] | None = None
    version_command: Argv | None = None
    health_headers: (
        Annotated[dict[HeaderName, HeaderValue], Field(min_length=1, max_length=20)] | None
    ) = None
    health_token_file: Path | None = None
    health_token_scheme: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,40}$")] | None
    ) = None
    schema_field: str | None = None
    write_probe_field: str | None = None
    health_timeout_s: Seconds = 120.0
    probe_timeout_s: Seconds = 10.0
    maintenance_file: Path
    parts: Annotated[tuple[PartSettings, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _require_adapter_settings(self) -> ApplicationSettings:
        controlled: tuple[ControlSettings, ...] = (self, *self.parts)
        for item in controlled:
            where = f" in the part '{item.name}'" if isinstance(item, PartSettings) else ""
            if self.adapter == "systemd" and not item.unit:
                raise InvalidValueError(
                    N_("the systemd adapter requires 'unit'{where}"), where=where
                )
            if self.adapter == "command" and not (item.start and item.stop and item.status):
                raise InvalidValueError(
                    N_("the command adapter requires 'start', 'stop' and 'status'{where}"),
                    where=where,
                )
        self._require_version_source()
        self._require_safe_credentials()
        names = [part.name for part in self.parts]
        units = [item.unit for item in controlled if item.unit]
        for kind, found in (("name", names), ("unit", units)):
            if len(set(found)) != len(found):
                raise InvalidValueError(
                    N_("duplicate {kind} in the parts of the application"), kind=kind
                )
        return self

    def _require_safe_credentials(self) -> None:
        for name in self.health_headers or ():
            if name.lower() in FORBIDDEN_HEADERS:
                raise InvalidValueError(
                    N_("header '{name}' not allowed in health_headers; use health_token_file"),
                    name=name,
                )
        if self.health_token_scheme and not self.health_token_file:
            raise ValueError("'health_token_scheme' requires health_token_file")
        if self.health_token_file and not _is_safe_for_token(self.health_url):
            raise ValueError(
                "a token requires https:// in health_url, or an address of this machine"
                " such as http://127.0.0.1"
            )

    def _require_version_source(self) -> None:
        if self.version_command and (self.schema_field or self.write_probe_field):
            raise ValueError(
                "'schema_field' and 'write_probe_field' cannot be combined with version_command"
            )
        if not self.version_pattern:
            return
        try:
            groups = re.compile(self.version_pattern).groups
        except re.error as error:
            raise InvalidValueError(
                N_("'version_pattern' is not a regular expression: {error}"), error=error
            ) from error
        if groups != 1:
            raise ValueError("'version_pattern' requires exactly one group")
        if self.schema_field or self.write_probe_field:
            raise ValueError(
                "'schema_field' and 'write_probe_field' cannot be combined with version_pattern"
            )


def _is_safe_for_token(url: str) -> bool:
    """Return whether requests to an address are encrypted or stay on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "https" or host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class SoakSettings(BaseSettings):
    """The soak period.

    Attributes:
        seconds: Its duration.
        interval_s: Time between two health checks.
        max_failures: Number of consecutive failed checks after which the release has failed.
        on_failure: ``report`` notifies and waits for an operator; ``rollback`` rolls back and
            keeps all records, if the release supports that.
    """

    seconds: Annotated[float, Field(ge=0, le=30 * 86_400)] = 3600.0
    interval_s: Seconds = 10.0
    max_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    on_failure: Literal["report", "rollback"] = "rollback"


class RetentionSettings(BaseSettings):
    """Retention after a change.

    Attributes:
        previous_days: Days until the previous databases are dropped; 0 drops them at once.
        slots: Number of retained slots besides the one in use.
    """

    previous_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    slots: Annotated[int, Field(ge=1, le=100)] = 2


class PathSettings(BaseSettings):
    """Paths; relative ones are below ``root``.

    Attributes:
        feed_state: Directory of metadata and downloads; by default ``state``. A process with a user
            of its own reads the feed and writes here, not to the journal's directory.
    """

    root: Path = Path("/")
    state: Path = Path("var/lib/ncen-updater")
    feed_state: Path | None = None
    slots: Path = Path("opt/ncen/slots")
    current: Path = Path("opt/ncen/current")
    trusted_root: Path = Path("etc/ncen-updater/trust/root.json")
    agent_slots: Path = Path("opt/ncen-updater")

    def resolve(self, path: Path) -> Path:
        """Return an absolute path."""
        return self.root / path

    @property
    def feed_state_directory(self) -> Path:
        """Return the absolute directory of metadata and downloads."""
        return self.resolve(self.state if self.feed_state is None else self.feed_state)


class AgentConfig(BaseSettings):
    """The complete ``agent.toml``."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    site: SiteSettings
    # A validated default would build a validator of its own when this module is imported.
    paths: PathSettings = PathSettings.model_construct()
    feed: FeedSettings
    databases: DatabaseSettings
    files: Annotated[tuple[SiteFilesSettings, ...], Field(max_length=20)] = ()
    overlay: OverlaySettings | None = None
    application: ApplicationSettings
    soak: SoakSettings = SoakSettings.model_construct()
    retention: RetentionSettings = RetentionSettings.model_construct()
    service: ServiceSettings = ServiceSettings.model_construct()
    notify: NotifySettings = NotifySettings.model_construct()
    metrics: MetricsSettings = MetricsSettings.model_construct()

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    def list_written_directories(self) -> tuple[Path, ...]:
        """Return the directories that a change writes to; for files, their parent directories.

        The generator of the units grants write access to exactly these; a test compares the two.
        """
        paths, databases = self.paths, self.databases
        merged = self.overlay.merged.parent if self.overlay else None
        places = [
            paths.state,
            paths.slots,
            paths.current.parent,
            self.application.maintenance_file.parent,
            databases.engine_settings.local_directory,
            merged,
            *(item.directory.parent for item in self.files),
        ]
        return tuple(paths.resolve(place) for place in places if place is not None)

    @model_validator(mode="after")
    def _require_separate_directories(self) -> AgentConfig:
        """Refuse nested directories: a rolled-back directory must not contain the agent's files."""
        if len({item.name for item in self.files}) != len(self.files):
            raise ValueError("duplicate name in [[files]]")
        paths, databases = self.paths, self.databases
        ours = [
            paths.state, paths.feed_state, paths.slots, paths.current, paths.trusted_root,
            paths.agent_slots, self.application.maintenance_file,
            databases.engine_settings.local_directory,
        ]  # fmt: skip
        places = [paths.resolve(item) for item in ours if item is not None]
        directories = [paths.resolve(item.directory) for item in self.files]
        if self.overlay is not None:
            places.append(paths.resolve(self.overlay.merged))
            # Site files may be beside the overlay's source, but merged files may not.
            own = paths.resolve(self.overlay.directory)
            for other in places:
                if other.is_relative_to(own) or own.is_relative_to(other):
                    raise InvalidValueError(
                        N_("[overlay] {own} and {other} are nested"), own=own, other=other
                    )
        for number, directory in enumerate(directories):
            for other in (*places, *directories[:number]):
                if other.is_relative_to(directory) or directory.is_relative_to(other):
                    raise InvalidValueError(
                        N_("[[files]] {directory} and {other} are nested"),
                        directory=directory,
                        other=other,
                    )
        return self
