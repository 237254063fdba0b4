"""Headers of a health request, and the command that reports the version in its place.

The token is read from its file at each request, so that it can be renewed, and goes to the
configured address alone. No error contains it, and it is removed from every response before anybody
reads that. Light: ``ncen-updater status`` sends the same request as an upgrade.
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
#: What of the output of a command is the version, where no pattern says.
FIRST_WORD_PATTERN = r"(\S+)"
MASK = "***"
#: Statuses of an answer that is about who asks, and not about what is asked.
REFUSAL_STATUSES = frozenset({401, 403})
#: A token is one word of what may stand in a header; so nothing in it can end the header.
TOKEN_PATTERN = re.compile(r"[!-~]{1,4000}")


@dataclass(frozen=True)
class RequestCredentials:
    """Headers of a request, and what must not be told of them.

    Attributes:
        headers: All that the site wants to be sent.
        token: The secret among them; empty where there is none.
    """

    headers: Mapping[str, str] = field(repr=False)
    token: str = field(default="", repr=False)

    def mask(self, body: bytes) -> bytes:
        """Return an answer without the token, which some applications quote."""
        return body.replace(self.token.encode(), MASK.encode()) if self.token else body

    def mask_text(self, text: str) -> str:
        """Return what went wrong without it."""
        return text.replace(self.token, MASK) if self.token else text


def load_request_credentials(
    headers: Mapping[str, str] | None, token_file: Path | None, scheme: str
) -> RequestCredentials:
    """Return what goes along with a request, with the token as it is now.

    Args:
        headers: Of the configuration.
        token_file: The file with the token alone; None where none is sent.
        scheme: The word before it.

    Raises:
        HEALTH_TOKEN_MISSING: If the file cannot be read.
        HEALTH_TOKEN_EXPOSED: If others may read it.
        HEALTH_TOKEN_BAD: If something else than one token is in it.
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
    """Return a problem that is the status of an answer; pure."""
    return LazyText(N_("HTTP status {detail}"), {"detail": status})


def describe_refusal(status: int, credentials: RequestCredentials) -> LazyText | None:
    """Return how an answer refuses what the site sends along; None where it does not; pure.

    The words name what to mend. Nothing of what was sent is in them.
    """
    sent = {
        "health_token_file": bool(credentials.token),
        "health_headers": len(credentials.headers) > bool(credentials.token),
    }
    settings = ", ".join(name for name, is_sent in sent.items() if is_sent)
    if status not in REFUSAL_STATUSES or not settings:
        return None
    words = N_("HTTP status {status}: credentials rejected ({settings})")
    return LazyText(words, {"status": status, "settings": settings})


def parse_version_output(status: int | None, output: str, pattern: str | None) -> str | None:
    """Return the version that a command of the site printed; None where it said none; pure.

    Args:
        status: How it ended.
        output: What it printed.
        pattern: Finds the version in it; its first word by default.
    """
    return extract_version(output.encode(), pattern or FIRST_WORD_PATTERN) if status == 0 else None
