"""Models of the tables ``[service]``, ``[notify]`` and ``[metrics]``."""

from __future__ import annotations

from datetime import UTC, time, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ncen_updater.agent.config.engines import BaseSettings, WebAddress
from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow
from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_


def _parse_wall_time(value: object) -> object:
    """Parse ``22:00`` as text; TOML's own local times are returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return time.fromisoformat(value)
    except ValueError as error:
        raise ValueError("use hours and minutes, such as 22:00") from error


WallTime = Annotated[time, BeforeValidator(_parse_wall_time)]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]


class WindowSettings(BaseSettings):
    """Weekly hours in the site's local time.

    Attributes:
        days: Days on which the hours begin; every day by default.
        start: Opening time.
        end: Closing time; on the next day if not after the start; 00:00 to 00:00 is the whole day.
    """

    days: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)] = tuple(Weekday)
    start: WallTime
    end: WallTime

    @field_validator("start", "end")
    @classmethod
    def _require_wall_time(cls, value: time) -> time:
        if value.tzinfo is not None or value.second or value.microsecond:
            raise ValueError("use hours and minutes, such as 22:00")
        return value

    @model_validator(mode="after")
    def _require_duration(self) -> WindowSettings:
        if self.start == self.end != time(0):
            raise InvalidValueError(N_("start and end are equal; for the whole day, use 00:00"))
        return self

    def to_window(self) -> WeeklyWindow:
        """Return the window for the policy."""
        return WeeklyWindow(frozenset(self.days), self.start, self.end)


class ServiceSettings(BaseSettings):
    """Settings of the service.

    Attributes:
        mode: ``notify`` reports offered releases; ``approve`` prepares them and waits for
            approval; ``automatic`` upgrades in the next window.
        timezone: Time zone of all hours in this file; that of the machine by default.
        windows: Maintenance windows in which downtime may start automatically; without any,
            upgrades start only at a scheduled time or with ``upgrade``.
        check_interval_hours: Hours between two feed checks; sites check at different times.
        download_windows: Hours in which downloads may run; without any, at any time.
        rehearse: Whether to rehearse a release on copies before approval.
        max_rehearsal_age_days: Maximum age of a rehearsal.
        max_growth_percent: Maximum growth of a database since the rehearsal.
        required_approvals: Number of required approvals.
        api_socket: Socket of the local API.
        viewer_group: Group whose members may view.
        operator_group: Group whose members may also run operations, hold and schedule.
        approver_group: Group whose members may also approve.
        self_update: Whether the agent updates itself, in the download windows.
        confirm_agent_s: Minimum running time in seconds before a new agent confirms itself.
        runner: ``process`` runs operations in child processes; ``systemd`` in units with separate
            privileges.
        fetch_socket: Socket of the unit that uses the network.
        apply_socket: Socket of the unit that changes the site.
        renew_socket: Socket of the unit that writes the agent's code.
        send_socket: Socket of the unit that sends notifications.
    """

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
        """Return the time zone of all hours in the configuration.

        The machine's zone is read from ``/etc/localtime`` with its daylight saving rules; a fixed
        offset would be wrong for half of the year.
        """
        if self.timezone is not None:
            return ZoneInfo(self.timezone)
        try:
            with Path("/etc/localtime").open("rb") as stream:
                return ZoneInfo.from_file(stream, key="localtime")
        except FileNotFoundError:
            return UTC  # default without the file: localtime(5)


# A plain address without a display name, which would need quoting.
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


class MailSettings(BaseSettings):
    """The mail server for notifications.

    Attributes:
        host: Host name.
        security: ``starttls``; ``tls`` from the first byte; ``none`` for a server on this machine.
        user: User name, if the server requires authentication.
        password_file: File (mode 0600) with the password only.
        password_credential: Name of a systemd credential with the password, used without a file.
        sender: Address in ``From``.
        to: Recipients.
        ca_file: Certificates of a private certificate authority.
        timeout_s: Seconds without a response after which the server is given up.
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


class WebhookSettings(BaseSettings):
    """A webhook that receives notifications as JSON over HTTPS.

    Attributes:
        url: Address for POST requests.
        secret_file: File (mode 0600) with the signing secret, at least 16 characters.
        secret_credential: Name of a systemd credential with the secret, used without a file.
        ca_file: Certificates of a private certificate authority.
        proxy: ``http://host:port`` of a proxy, if needed.
        timeout_s: Seconds without a response after which the receiver is given up.
    """

    url: WebAddress
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


class NotifySettings(BaseSettings):
    """Notifications: which, how often, and to whom.

    Attributes:
        language: Language of messages: ``en``, ``fr``, or another installed catalogue.
        max_per_hour: Maximum messages per hour and channel; a message may contain several
            notifications.
        batch_s: Seconds that a notification waits for others, unless it is critical.
        disabled_kinds: Kinds of notifications that are not sent.
        upgrade_notice_hours: Hours of notice before an upgrade starts.
        expiry_notice_days: Days of notice before the metadata expires.
        min_free_percent: Free disk space below which a notification is sent.
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


class MetricsSettings(BaseSettings):
    """Metrics for Prometheus.

    Attributes:
        file: Text file for the node exporter's textfile collector, such as
            ``run/ncen-updater/ncen_updater.prom``; none is written by default.
    """

    file: Annotated[Path, Field(strict=False)] | None = None
