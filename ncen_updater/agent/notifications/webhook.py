"""Posts a message as JSON, signed with a shared secret.

The header ``NCEN-Signature: t=<seconds>,v1=<hex>`` is HMAC-SHA-256 over ``<seconds>.<body>``: a
receiver computes the same, compares in constant time, and refuses what is older than some minutes.
``NCEN-Message`` is the same for each try of one message.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from ncen_updater.agent.config.notifications import WebhookSettings
from ncen_updater.agent.notifications.errors import NotifyError
from ncen_updater.agent.notifications.letter import Letter
from ncen_updater.agent.notifications.secret import read_secret
from ncen_updater.common.messages import (
    SECRET_MISSING,
    TELLING_TLS,
    WEBHOOK_REFUSED,
    WEBHOOK_UNREACHABLE,
)

LEAST_SECRET = 16


def signature(secret: str, body: bytes, at: int) -> str:
    """Return the value of ``NCEN-Signature``.

    Args:
        secret: What both sides know.
        body: The bytes of the message.
        at: When it was signed, seconds since 1970.
    """
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


def post(
    letter: Letter, settings: WebhookSettings, environment: Mapping[str, str], now: datetime
) -> None:
    """Deliver a letter.

    Raises:
        NotifyError: If it was not taken.
    """
    import requests

    address = urlsplit(settings.url)
    port = address.port or (443 if address.scheme == "https" else 80)
    place: dict[str, Any] = {"host": address.hostname, "port": port}
    secret = read_secret(
        settings.secret_file, settings.secret_credential, environment, LEAST_SECRET
    )
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise NotifyError(SECRET_MISSING, name=settings.ca_file, reason="not a file")
    body = json.dumps(letter.document, ensure_ascii=False, sort_keys=True).encode()
    with requests.Session() as session:
        session.trust_env = False  # no password from a .netrc, no proxy that nobody configured
        if settings.proxy:
            session.proxies = {"http": settings.proxy, "https": settings.proxy}
        session.verify = str(settings.ca_file) if settings.ca_file else True
        try:
            with session.post(
                settings.url,
                data=body,
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": "ncen-updater",
                    "NCEN-Message": letter.id,
                    "NCEN-Signature": signature(secret, body, int(now.timestamp())),
                },
                timeout=settings.timeout_s,
                allow_redirects=False,  # what was signed for one place is not carried to another
                stream=True,  # the answer's body is not read
            ) as answer:
                status = answer.status_code
        except requests.exceptions.SSLError as error:
            raise NotifyError(TELLING_TLS, **place) from error
        except requests.exceptions.RequestException as error:
            raise NotifyError(WEBHOOK_UNREACHABLE, **place, detail=type(error).__name__) from error
    if not 200 <= status < 300:
        raise NotifyError(WEBHOOK_REFUSED, **place, status=status)
