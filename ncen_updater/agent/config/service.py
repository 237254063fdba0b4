"""The tables ``[service]``, ``[notify]`` and ``[metrics]``: what it does, and whom it tells."""

from __future__ import annotations

from datetime import UTC, time, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow


def _parse_wall_time(value: object) -> object:
    """Take ``22:00`` as text: TOML's own times are local times too, and come as they are."""
    if not isinstance(value, str):
        return value
    try:
        return time.fromisoformat(value)
    except ValueError as error:
        raise ValueError("use hours and minutes, such as 22:00") from error


WallTime = Annotated[time, BeforeValidator(_parse_wall_time)]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]


class WindowSettings(BaseModel):
    """Hours of the week, wall time of the site.

    Attributes:
        days: On which days the hours begin; every day by default.
        start: Their beginning.
        end: Their end; not after the start means on the next day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    days: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)] = tuple(Weekday)
    start: WallTime
    end: WallTime

    @field_validator("start", "end")
    @classmethod
    def _require_wall_time(cls, value: time) -> time:
        if value.tzinfo is not None or value.second or value.microsecond:
            raise ValueError("use hours and minutes, such as 22:00")
        return value

    def to_window(self) -> WeeklyWindow:
        """Return the window that the policy reckons with."""
        return WeeklyWindow(frozenset(self.days), self.start, self.end)


class ServiceSettings(BaseModel):
    """What the service does by itself.

    Attributes:
        mode: ``notify`` tells what is on offer; ``approve`` prepares and waits for people;
            ``automatic`` upgrades in the next window.
        timezone: Zone of all hours here; that of the machine by default.
        windows: Hours in which a cut-over may begin by itself; without any it begins only at a
            time that a person chose, or by ``upgrade``.
        check_interval_hours: Hours between two questions to the feed, spread over the sites.
        download_windows: Hours in which downloads may run; none means at any time.
        rehearse: Whether a release is rehearsed on copies before anybody approves it.
        max_rehearsal_age_days: How old a rehearsal may become.
        max_growth_percent: So much may a database grow after the rehearsal.
        required_approvals: How many people have to approve.
        api_socket: Where the local interface listens.
        viewer_group: Members may look.
        operator_group: Members may order, hold and schedule, too.
        approver_group: Members may approve, too.
        self_update: Whether the agent renews itself, at the hours of downloads.
        confirm_agent_s: Seconds that a new agent has to run before it may confirm itself.
        runner: ``process`` runs work as a child; ``systemd`` starts the units that split privilege.
        fetch_socket: Where systemd waits to start what talks to the network.
        apply_socket: Where systemd waits to start what works on the site.
        renew_socket: Where systemd waits to start what writes the agent's own code.
        send_socket: Where systemd waits to start what sends a message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    mode: Literal["notify", "approve", "automatic"] = "approve"
    timezone: str | None = None
    windows: tuple[WindowSettings, ...] = ()
    check_interval_hours: Annotated[float, Field(ge=0.25, le=168)] = 6.0
    download_windows: tuple[WindowSettings, ...] = ()
    rehearse: bool = True
    max_rehearsal_age_days: Annotated[float, Field(gt=0, le=365)] = 14.0
    max_growth_percent: Annotated[float, Field(ge=0, le=1000)] = 20.0
    required_approvals: Annotated[int, Field(ge=1, le=2)] = 1
    api_socket: Path = Path("run/ncen-updater/api.sock")
    viewer_group: GroupName = "ncen-updater"
    operator_group: GroupName = "ncen-operator"
    approver_group: GroupName = "ncen-approver"
    self_update: bool = True
    confirm_agent_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    runner: Literal["process", "systemd"] = "process"
    fetch_socket: Path = Path("run/ncen-updater/fetch.sock")
    apply_socket: Path = Path("run/ncen-updater/apply.sock")
    renew_socket: Path = Path("run/ncen-updater/renew.sock")
    send_socket: Path = Path("run/ncen-updater/send.sock")

    @field_validator("timezone")
    @classmethod
    def _require_known_timezone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError("unknown time zone") from error
        return value

    def get_timezone(self) -> tzinfo:
        """Return the zone of all hours.

        The machine's zone is read from ``/etc/localtime``, so that its changes of clock are known;
        a fixed offset would be wrong for half of the year.
        """
        if self.timezone is not None:
            return ZoneInfo(self.timezone)
        try:
            with Path("/etc/localtime").open("rb") as stream:
                return ZoneInfo.from_file(stream, key="localtime")
        except FileNotFoundError:
            return UTC  # what a machine without that file goes by: localtime(5)


# One address, without a name before it: what is more would have to be quoted.
Address = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}$")
]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
Credential = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$")]
Language = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{2,3}(_[A-Z][a-z]{3})?(_([A-Z]{2}|[0-9]{3}))?(@[a-z]+)?$"),
]
NetworkTimeout = Annotated[float, Field(gt=0, le=120)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class MailSettings(_Settings):
    """The mail server that takes messages.

    Attributes:
        host: Its name.
        security: ``starttls``; ``tls`` from the first byte; ``none`` for a server on this machine.
        user: Who sends, where the server asks.
        password_file: File (mode 0600) with the password alone.
        password_credential: Name of a systemd credential with it, used where there is no file.
        sender: Address in ``From``.
        to: Who is told.
        ca_file: Certificates of a private authority.
        timeout_s: Seconds without an answer after which the server counts as dead.
    """

    host: HostName
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")] | None = None
    password_file: Path | None = None
    password_credential: Credential | None = None
    sender: Address
    to: Annotated[tuple[Address, ...], Field(min_length=1, max_length=50)]
    ca_file: Path | None = None
    timeout_s: NetworkTimeout = 30.0

    @model_validator(mode="after")
    def _require_safe_password(self) -> MailSettings:
        given = self.password_file is not None or self.password_credential is not None
        if given != (self.user is not None):
            raise ValueError("'user' and 'password' require each other")
        if given and self.security == "none":
            raise ValueError("a password requires starttls or tls")
        return self


class WebhookSettings(_Settings):
    """An address that takes messages as JSON over HTTPS.

    Attributes:
        url: Where they are posted.
        secret_file: File (mode 0600) with the secret that signs them, at least 16 characters.
        secret_credential: Name of a systemd credential with it, used where there is no file.
        ca_file: Certificates of a private authority.
        proxy: ``http://host:port`` of a proxy, if one is needed.
        timeout_s: Seconds without an answer after which the receiver counts as dead.
    """

    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]{1,2000}$")]
    secret_file: Path | None = None
    secret_credential: Credential | None = None
    ca_file: Path | None = None
    proxy: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")] | None = None
    timeout_s: NetworkTimeout = 30.0

    @model_validator(mode="after")
    def _require_secret(self) -> WebhookSettings:
        if self.secret_file is None and self.secret_credential is None:
            raise ValueError("secret_file or secret_credential required")
        return self


class NotifySettings(_Settings):
    """What people are told, and how often.

    Attributes:
        language: Language of messages: ``en``, ``fr``, or another catalogue that is installed.
        max_per_hour: The most messages in an hour, on each way; several news go into one message.
        batch_s: News that are not urgent wait so long for others.
        disabled_kinds: Kinds of news that are not told.
        upgrade_notice_hours: So long before an upgrade begins it is told.
        expiry_notice_days: So many days before the lists of the feed lapse it is told.
        min_free_percent: Less free space than this is told.
    """

    language: Language = "en"
    max_per_hour: Annotated[int, Field(ge=1, le=60)] = 6
    batch_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    disabled_kinds: tuple[NotificationKind, ...] = ()
    upgrade_notice_hours: Annotated[float, Field(ge=0, le=168)] = 12.0
    expiry_notice_days: Annotated[float, Field(ge=0, le=365)] = 5.0
    min_free_percent: Annotated[float, Field(ge=0, le=90)] = 10.0
    mail: MailSettings | None = None
    webhook: WebhookSettings | None = None


class MetricsSettings(_Settings):
    """Figures for Prometheus.

    Attributes:
        file: Text file for the node exporter's textfile collector, such as
            ``run/ncen-updater/ncen_updater.prom``; none means none is written.
    """

    file: Annotated[Path, Field(strict=False)] | None = None
