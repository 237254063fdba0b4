"""The tables ``[notify]`` and ``[metrics]``: who is told. See docs/reference/configuration.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ncen_updater.agent.model.notification_kind import NotificationKind

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
    model_config = ConfigDict(extra="forbid", frozen=True)


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
