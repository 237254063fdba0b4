"""Worker process that sends notifications and receipts: it uses the network and no database.

Started by :mod:`.notifier`. Mail is sent over TLS unless the configuration disables it. A webhook
receives JSON signed with a shared secret: the header ``NCEN-Signature: t=<seconds>,v1=<hex>``
contains the HMAC-SHA-256 of ``<seconds>.<body>``. The receiver computes the same value, compares it
in constant time, and refuses messages older than some minutes. ``NCEN-Message`` is the same for
each attempt of one message. A receipt is sent with ``PUT`` to a path with its digest, or as the
attachment of a mail; content that is not a valid receipt is refused. Secrets come from a file or a
systemd credential, never from an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import smtplib
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ncen_updater.agent.config.agent_config import AgentConfig, FeedSettings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.service import MailSettings, WebhookSettings
from ncen_updater.agent.service.notifications.notification import (
    Notification,
    format_notification,
    format_severity,
    format_title,
)
from ncen_updater.agent.storage.journal.rows import ChainHead
from ncen_updater.common.bounded_io import (
    SecretExposedError,
    SecretUnreadableError,
    read_secret_file,
)
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import (
    NOTIFICATION_REFUSED,
    NOTIFICATION_TLS_FAILED,
    NOTIFICATION_UNREACHABLE,
    NOTIFY_ERROR,
    PASSWORD_NOT_ASCII,
    RECEIPT_NOT_DELIVERED,
    SECRET_EXPOSED,
    SECRET_MISSING,
    WRONG_PASSWORD,
)
from ncen_updater.common.workers import serve_request
from ncen_updater.formats.receipt import SignedReceipt, read_receipt


def build_email(
    message: NotificationMessage, settings: MailSettings, now: datetime
) -> EmailMessage:
    """Return the message as a mail; its ``Message-ID`` is the same for each attempt."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.id}@{settings.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: suppresses automatic replies
    if message.is_critical:
        mail["Importance"] = "high"
    mail.set_content(message.body)
    return mail


def build_receipt_email(
    signed: SignedReceipt, address: str, settings: MailSettings, now: datetime
) -> EmailMessage:
    """Return a receipt as a mail: one attachment, and no information beyond the receipt's."""
    receipt = signed.receipt
    mail = EmailMessage()
    mail["From"], mail["To"] = settings.sender, address
    mail["Subject"] = f"Receipt {receipt.site} {receipt.number}"
    mail["Date"] = format_datetime(now.replace(hour=0, minute=0, second=0))
    mail["Message-ID"] = f"<{compute_sha256(signed.content)[:32]}@{address.partition('@')[2]}>"
    mail.set_content("")
    name = f"receipt-{receipt.site}-{receipt.number}.json"
    mail.add_attachment(signed.content, "application", "json", filename=name)
    return mail


def send_mail(mail: EmailMessage, settings: MailSettings, environment: Mapping[str, str]) -> int:
    """Send a mail.

    Returns:
        The number of recipients that the server refused, if it accepted others.

    Raises:
        NotificationError: If the mail was not delivered to any recipient.
    """
    server_values: dict[str, Any] = {"host": settings.host, "port": settings.port}
    password = (
        read_secret(settings.password_file, settings.password_credential, environment)
        if settings.user
        else None
    )
    if password is not None and not password.isascii():  # smtplib sends nothing else
        name = settings.password_file or settings.password_credential
        raise NotificationError(PASSWORD_NOT_ASCII, name=name)
    try:
        with _connect(settings) as server:
            if settings.user and password is not None:
                server.login(settings.user, password)
            return len(server.send_message(mail))
    except smtplib.SMTPAuthenticationError as error:
        raise NotificationError(WRONG_PASSWORD, **server_values) from error
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        raise NotificationError(
            NOTIFICATION_TLS_FAILED, **server_values, detail=type(error).__name__
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        status = next(iter(error.recipients.values()))[0]
        raise NotificationError(NOTIFICATION_REFUSED, **server_values, status=status) from error
    except smtplib.SMTPServerDisconnected as error:
        raise NotificationError(NOTIFICATION_UNREACHABLE, **server_values) from error
    except smtplib.SMTPResponseException as error:
        raise NotificationError(
            NOTIFICATION_REFUSED, **server_values, status=error.smtp_code
        ) from error
    except (OSError, smtplib.SMTPException, UnicodeError) as error:  # also no valid host name
        raise NotificationError(
            NOTIFICATION_UNREACHABLE, **server_values, detail=type(error).__name__
        ) from error


def _connect(settings: MailSettings) -> smtplib.SMTP:
    if settings.security == "none":
        return smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
    try:
        trust = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise NotificationError(
            SECRET_MISSING, name=settings.ca_file, reason=type(error).__name__
        ) from error
    if settings.security == "tls":
        return smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=settings.timeout_s, context=trust
        )
    server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
    try:
        server.starttls(context=trust)
    except BaseException:
        server.close()
        raise
    return server


MIN_SECRET_CHARS = 16
#: Timeout of each network operation; the worker has a total time limit as well.
RECEIPT_TIMEOUT_S = 30.0


def sign_body(secret: str, body: bytes, at: int) -> str:
    """Return the value of ``NCEN-Signature``.

    Args:
        secret: The shared secret.
        body: The body of the message.
        at: Time of the signature, in seconds since 1970.
    """
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


def post_webhook(
    message: NotificationMessage,
    settings: WebhookSettings,
    environment: Mapping[str, str],
    now: datetime,
) -> None:
    """Post a message to the webhook.

    Raises:
        NotificationError: If it was not accepted.
    """
    import requests

    address = urlsplit(settings.url)
    port = address.port or (443 if address.scheme == "https" else 80)
    server_values: dict[str, Any] = {"host": address.hostname, "port": port}
    secret = read_secret(
        settings.secret_file, settings.secret_credential, environment, MIN_SECRET_CHARS
    )
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise NotificationError(SECRET_MISSING, name=settings.ca_file, reason="not a file")
    body = json.dumps(message.document, ensure_ascii=False, sort_keys=True).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ncen-updater",
        "NCEN-Message": message.id,
        "NCEN-Signature": sign_body(secret, body, int(now.timestamp())),
    }
    try:
        status = _send_http("POST", settings.url, body, headers, settings, settings.timeout_s)
    except requests.exceptions.SSLError as error:
        raise NotificationError(NOTIFICATION_TLS_FAILED, **server_values) from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise NotificationError(
            NOTIFICATION_UNREACHABLE, **server_values, detail=type(error).__name__
        ) from error
    if not 200 <= status < 300:
        raise NotificationError(NOTIFICATION_REFUSED, **server_values, status=status)


def put_receipt(signed: SignedReceipt, address: str, settings: FeedSettings) -> None:
    """Upload a receipt to a web server, through the proxy of the feed; follow no redirects.

    Raises:
        RECEIPT_NOT_DELIVERED: If it was not accepted.
    """
    import requests

    url = f"{address.rstrip('/')}/{compute_sha256(signed.content)}"
    # Default headers would disclose library versions, which are not part of the receipt.
    headers = {"User-Agent": "ncen-updater", "Accept": None}
    try:
        status = _send_http("PUT", url, signed.content, headers, settings, RECEIPT_TIMEOUT_S)
    except (requests.exceptions.RequestException, ValueError) as error:
        raise UpdaterError(
            RECEIPT_NOT_DELIVERED, address=address, reason=type(error).__name__
        ) from error
    if not 200 <= status < 300:
        raise UpdaterError(RECEIPT_NOT_DELIVERED, address=address, reason=f"HTTP {status}")


def _send_http(
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str | None],
    settings: WebhookSettings | FeedSettings,
    timeout_s: float,
) -> int:
    """Send a request and return the status of the response; its body is not read.

    Raises:
        requests.exceptions.RequestException: If there was no response.
        ValueError: If the address cannot be used.
    """
    import requests

    with requests.Session() as session:
        # use neither passwords from .netrc nor proxies from the environment
        session.trust_env = False
        if settings.proxy:
            session.proxies = {"http": settings.proxy, "https": settings.proxy}
        session.verify = str(settings.ca_file) if settings.ca_file else True
        # no redirects: the message is meant for this address only
        with session.request(
            method, url, data=body, headers=headers, timeout=timeout_s, allow_redirects=False,
            stream=True,
        ) as response:  # fmt: skip
            return response.status_code


def deliver_receipt(config: AgentConfig, request: Mapping[str, Any]) -> None:
    """Send the receipt in a request.

    Raises:
        RECEIPT_INVALID: If it is not a valid receipt.
        RECEIPT_NOT_DELIVERED, NotificationError: If it was not accepted.
    """
    signed = read_receipt(str(request["content"]).encode())
    scheme, _, rest = str(request["address"]).partition(":")
    if scheme == "https":
        put_receipt(signed, f"{scheme}:{rest}", config.feed)
    elif config.notify.mail is not None:
        mail = build_receipt_email(signed, rest, config.notify.mail, datetime.now(UTC))
        send_mail(mail, config.notify.mail, os.environ)
    else:
        raise UpdaterError(RECEIPT_NOT_DELIVERED, address=rest, reason="no [notify.mail]")


def read_secret(
    file: Path | None, credential: str | None, environment: Mapping[str, str], min_chars: int = 1
) -> str:
    """Return a secret without the line end.

    Args:
        file: File with the secret; other users must not be able to read it.
        credential: Name of a systemd credential, used without a file.
        environment: Source of ``CREDENTIALS_DIRECTORY``.
        min_chars: Minimum length.

    Raises:
        SECRET_MISSING: If the secret cannot be read or is too short.
        SECRET_EXPOSED: If other users can read the file.
    """
    if file is not None:
        path = file
    else:
        directory = environment.get("CREDENTIALS_DIRECTORY")
        if not directory or credential is None:
            raise NotificationError(
                SECRET_MISSING, name=credential, reason="CREDENTIALS_DIRECTORY is not set"
            )
        path = Path(directory) / credential
    try:
        # systemd grants a credential to one user with an ACL, whose mask appears as group
        # permissions.
        text = read_secret_file(path, has_acl=file is None)
    except SecretExposedError as error:
        raise NotificationError(SECRET_EXPOSED, path=path) from error
    except SecretUnreadableError as error:
        raise NotificationError(SECRET_MISSING, name=path, reason=str(error)) from error
    if len(text) < min_chars:
        raise NotificationError(SECRET_MISSING, name=path, reason=f"{len(text)} < {min_chars}")
    return text


def deliver_message(config_path: Path, request: Mapping[str, Any]) -> int:
    """Send the message of a request; return the number of refused recipients if some accepted it.

    Raises:
        UpdaterError: If it was not delivered.
    """
    config = load_config(config_path)
    if request.get("channel") == "receipt":
        deliver_receipt(config, request)
        return 0
    try:
        channel, message_id = str(request["channel"]), str(request["id"])
        dropped = int(request["dropped"])
        head = str(request["chain_head"]) and str(ChainHead.parse(str(request["chain_head"])))
        notifications = [Notification.from_json(item) for item in request["notifications"]]
    except (KeyError, TypeError, ValueError) as error:
        raise NotificationError(NOTIFY_ERROR, detail=type(error).__name__) from error
    context = MessageContext(config.site.id, config.notify.language, config.service.get_timezone())
    if not notifications:
        raise NotificationError(NOTIFY_ERROR)
    message = compose_message(message_id, notifications, dropped, context, head)
    now = datetime.now(UTC)
    if channel == "mail" and config.notify.mail is not None:
        mail = build_email(message, config.notify.mail, now)
        return send_mail(mail, config.notify.mail, os.environ)
    if channel == "webhook" and config.notify.webhook is not None:
        post_webhook(message, config.notify.webhook, os.environ, now)
        return 0
    raise NotificationError(NOTIFY_ERROR)


def main() -> int:
    """Send one message; return the exit status."""
    config = Path(sys.argv[1])
    # Ends with the service, since only the service can record that the message was delivered.
    return serve_request(
        lambda request, _: {"sent": True, "refused": deliver_message(config, request)}
    )


class NotificationError(UpdaterError):
    """A message could not be delivered."""

    message = NOTIFY_ERROR
    code_range = range(9601, 9650)


@dataclass(frozen=True)
class MessageContext:
    """Recipient context of a message.

    Attributes:
        site: ID of the site.
        language: Language of the texts.
        zone: Time zone of displayed times.
    """

    site: str
    language: str
    zone: tzinfo


@dataclass(frozen=True)
class NotificationMessage:
    """A composed message.

    Attributes:
        id: Message ID, the same for each attempt.
        subject: One line.
        body: Plain text.
        is_critical: Whether it contains a critical notification.
        document: The same content as a JSON document.
    """

    id: str
    subject: str
    body: str
    is_critical: bool
    document: Mapping[str, Any]


def compose_message(
    number: str,
    notifications: Sequence[Notification],
    dropped: int,
    context: MessageContext,
    chain_head: str = "",
) -> NotificationMessage:
    """Compose a message.

    Args:
        number: Its ID.
        notifications: Its notifications, at least one, the most severe first.
        dropped: Number of earlier notifications that were dropped.
        context: The recipient context.
        chain_head: Number and hash of the newest journal event.
    """

    def say(text: LazyText) -> str:
        return text.render(context.language)

    first = say(format_title(notifications[0], context.zone))
    more = len(notifications) - 1
    values = {"site": context.site, "first": first, "more": more}
    subject = say(
        LazyText(N_("[{site}] {first} (+{more})") if more else "[{site}] {first}", values)
    )
    critical = any(item.is_critical for item in notifications)
    blocks, items = [], []
    for item in notifications:
        lines = [say(text) for text in format_notification(item, context.zone)]
        at = format_scheduled_time(item.at, context.zone).render(context.language)
        blocks.append("\n".join([f"{at}  {lines[0]}", *(f"    {line}" for line in lines[1:])]))
        items.append({**item.to_json(), "lines": lines})
    if dropped:
        lost = N_("Earlier notifications not delivered: {count}")
        blocks.append(say(LazyText(lost, {"count": dropped})))
    if chain_head:
        template = N_(
            "Chain head of the audit log: {head}. To verify it, run: ncen-updater verify --head"
        )
        blocks.append(say(LazyText(template, {"head": chain_head})))
    foot = LazyText(
        N_("Sent by ncen-updater on site {site}. Do not reply."), {"site": context.site}
    )
    return NotificationMessage(
        id=number,
        subject=" ".join(subject.split())[:200],
        body="\n\n".join([*blocks, f"-- \n{say(foot)}"]) + "\n",
        is_critical=critical,
        document={
            "schema": 1,
            "id": number,
            "site": context.site,
            "language": context.language,
            "subject": subject,
            "severity": format_severity(critical=critical),
            "dropped": dropped,
            "chain_head": chain_head or None,
            "notifications": items,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
