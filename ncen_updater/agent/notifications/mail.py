"""Sends a message to a mail server, over TLS unless the server is said to need none."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from ncen_updater.agent.config.notifications import MailSettings
from ncen_updater.agent.notifications.errors import NotifyError
from ncen_updater.agent.notifications.letter import Letter
from ncen_updater.agent.notifications.secret import read_secret
from ncen_updater.common.messages import (
    MAIL_REFUSED,
    MAIL_UNREACHABLE,
    SECRET_MISSING,
    TELLING_TLS,
    WRONG_PASSWORD,
)


def compose(letter: Letter, settings: MailSettings, now: datetime) -> EmailMessage:
    """Return the letter as a mail; its ``Message-ID`` is the same for each try."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = letter.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{letter.id}@{settings.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers by machines
    if letter.urgent:
        mail["Importance"] = "high"
    mail.set_content(letter.body)
    return mail


def send_mail(
    letter: Letter, settings: MailSettings, environment: Mapping[str, str], now: datetime
) -> int:
    """Deliver a letter.

    Returns:
        How many addresses the server did not take while it took others.

    Raises:
        NotifyError: If it was not delivered to anybody.
    """
    place: dict[str, Any] = {"host": settings.host, "port": settings.port}
    password = (
        read_secret(settings.password_file, settings.password_credential, environment)
        if settings.user
        else None
    )
    try:
        with _connected(settings) as server:
            if settings.user and password is not None:
                server.login(settings.user, password)
            return len(server.send_message(compose(letter, settings, now)))
    except smtplib.SMTPAuthenticationError as error:
        raise NotifyError(WRONG_PASSWORD, **place) from error
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        raise NotifyError(TELLING_TLS, **place, detail=type(error).__name__) from error
    except smtplib.SMTPRecipientsRefused as error:
        status = next(iter(error.recipients.values()))[0]
        raise NotifyError(MAIL_REFUSED, **place, status=status) from error
    except smtplib.SMTPServerDisconnected as error:
        raise NotifyError(MAIL_UNREACHABLE, **place) from error
    except smtplib.SMTPResponseException as error:
        raise NotifyError(MAIL_REFUSED, **place, status=error.smtp_code) from error
    except (OSError, smtplib.SMTPException) as error:
        raise NotifyError(MAIL_UNREACHABLE, **place, detail=type(error).__name__) from error


def _connected(settings: MailSettings) -> smtplib.SMTP:
    if settings.security == "none":
        return smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
    try:
        trust = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise NotifyError(
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
