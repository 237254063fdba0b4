"""What is answered as it is, and is no page of the console."""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.console.web_request import PAGE_POLICY


@dataclass(frozen=True)
class FileResponse:
    """Bytes of a kind.

    Attributes:
        content: The bytes.
        content_type: As ``Content-Type`` says it.
        headers: More headers.
        content_security_policy: Its ``Content-Security-Policy``.
        allows_framing: Whether a page of ours shows it within itself.
    """

    content: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    content_security_policy: str = PAGE_POLICY
    allows_framing: bool = False
