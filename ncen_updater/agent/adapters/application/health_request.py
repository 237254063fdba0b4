"""Headers of a health request, and the command that reports the version instead.

The token is read from its file at each request, so that it can be renewed, and is sent only to the
configured address. No error contains it, and it is removed from every response before anything
reads that. Light imports: ``ncen-updater status`` sends the same request as an upgrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ncen_updater.agent.model.errors import ApplicationError
from ncen_updater.common.bounded_io import (
    SecretExposedError,
    SecretUnreadableError,
    read_secret_file,
)
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    HEALTH_TOKEN_BAD,
    HEALTH_TOKEN_EXPOSED,
    HEALTH_TOKEN_MISSING,
)
from ncen_updater.formats.reported_version import extract_version

DEFAULT_AUTHORIZATION_SCHEME = "Bearer"
#: Default pattern of the version in a command's output: the first word.
FIRST_WORD_PATTERN = r"(\S+)"
MASK = "***"
#: HTTP statuses that concern the client and not the requested resource.
REFUSAL_STATUSES = frozenset({401, 403})
#: A token is one word of characters allowed in a header, so it cannot end the header.
TOKEN_PATTERN = re.compile(r"[!-~]{1,4000}")


@dataclass(frozen=True)
class RequestCredentials:
    """Headers of a request, and the secret in them.

    Attributes:
        headers: All headers that the site configures.
        token: The secret among them; empty if there is none.
    """

    headers: Mapping[str, str] = field(repr=False)
    token: str = field(default="", repr=False)

    def mask(self, body: bytes) -> bytes:
        """Return a response without the token, which some applications quote."""
        return body.replace(self.token.encode(), MASK.encode()) if self.token else body

    def mask_text(self, text: str) -> str:
        """Return an error text without the token."""
        return text.replace(self.token, MASK) if self.token else text


def load_request_credentials(
    headers: Mapping[str, str] | None, token_file: Path | None, scheme: str
) -> RequestCredentials:
    """Return the headers of a request, with the current token.

    Args:
        headers: The configured headers.
        token_file: File that contains only the token; None if none is sent.
        scheme: Authentication scheme, the word before the token.

    Raises:
        HEALTH_TOKEN_MISSING: If the file cannot be read.
        HEALTH_TOKEN_EXPOSED: If others may read it.
        HEALTH_TOKEN_BAD: If it does not contain exactly one token.
    """
    if token_file is None:
        return RequestCredentials(dict(headers or {}))
    try:
        token = read_secret_file(token_file).strip()
    except SecretExposedError as error:
        raise ApplicationError(HEALTH_TOKEN_EXPOSED, path=token_file) from error
    except SecretUnreadableError as error:
        reason = str(error)
        raise ApplicationError(HEALTH_TOKEN_MISSING, path=token_file, reason=reason) from error
    if not TOKEN_PATTERN.fullmatch(token):
        raise ApplicationError(HEALTH_TOKEN_BAD, path=token_file)
    return RequestCredentials({**(headers or {}), "Authorization": f"{scheme} {token}"}, token)


def describe_status(status: int) -> LazyText:
    """Describe an HTTP status as a problem; pure."""
    return LazyText(N_("HTTP status {detail}"), {"detail": status})


def describe_refusal(status: int, credentials: RequestCredentials) -> LazyText | None:
    """Describe how a response refuses the site's credentials; None if it does not; pure.

    The text names the settings to correct, and contains nothing that was sent.
    """
    sent = {
        "health_token_file": bool(credentials.token),
        "health_headers": len(credentials.headers) > bool(credentials.token),
    }
    settings = ", ".join(name for name, is_sent in sent.items() if is_sent)
    if status not in REFUSAL_STATUSES or not settings:
        return None
    template = N_("HTTP status {status}: credentials rejected ({settings})")
    return LazyText(template, {"status": status, "settings": settings})


def parse_version_output(status: int | None, output: str, pattern: str | None) -> str | None:
    """Return the version that a command of the site printed; None if there is none; pure.

    Args:
        status: Its exit status.
        output: Its output.
        pattern: Pattern of the version; the first word by default.
    """
    return extract_version(output.encode(), pattern or FIRST_WORD_PATTERN) if status == 0 else None
