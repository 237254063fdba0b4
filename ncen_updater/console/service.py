"""What the service of the site answers, and what was known of the site when it last did.

The socket is asked as the person who started the console: the kernel tells the service who that is,
and nothing that a browser sends does.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.unix_http import ServiceSilent, asked, messages

__all__ = ["Document", "Known", "ServiceRefusal", "SiteService"]

#: The service answers within this, or says that something takes longer.
SILENT_S = 40.0
#: It gives a sign of life on a stream more often than this.
QUIET_S = 45.0
MAX_BYTES = 64_000_000

Document = Mapping[str, Any]


class ServiceRefusal(Exception):
    """What the service refused, in its own words.

    Args:
        status: Of HTTP.
        error: ``code``, ``what``, ``state``, ``remedy`` and ``detail``.
    """

    def __init__(self, status: int, error: Document) -> None:
        super().__init__(str(error.get("code")))
        self.status = status
        self.error = {
            name: str(error.get(name) or "")
            for name in ("code", "what", "state", "remedy", "detail")
        }
        values = error.get("values")
        self.values: Document = values if isinstance(values, dict) else {}


class ServiceAnswer(dict[str, Any]):
    """An object of an answer; what is missing in it is the fault of who answered."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        raise ServiceSilent(reason=f"its answer has no '{name}'")


@dataclass(frozen=True)
class Known:
    """What the service said last of the site.

    Attributes:
        status: The answer.
        at: When it came.
    """

    status: Document
    at: datetime


class SiteService:
    """Asks the service of one site.

    Args:
        path: The socket.
        now: The clock of the wall.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path, self.now = path, now
        self._known: Known | None = None
        self._lock = threading.Lock()

    def known(self) -> Known | None:
        """Return what was known last; None where nothing ever was."""
        with self._lock:
            return self._known

    def status(self, language: str) -> Document:
        """Ask how the site is, and keep that; errors as in :meth:`get`."""
        found = self.get("/v1/status", language)
        with self._lock:
            self._known = Known(found, self.now())
        return found

    def get(self, address: str, language: str) -> Document:
        """Ask for something.

        Raises:
            ServiceSilent: If no answer came that can be understood.
            ServiceRefusal: If it was refused.
        """
        return self.call("GET", address, language)

    def call(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None = None
    ) -> Document:
        """Ask for something, or change something; errors as in :meth:`get`."""
        try:
            with asked(
                self.path, method, address, body, language=language, timeout_s=SILENT_S
            ) as response:
                content = response.read(MAX_BYTES + 1)
                status = response.status
        except (OSError, http.client.HTTPException) as error:
            raise ServiceSilent(reason=_reason(error)) from error
        document = _object(content)
        if status < 400:
            return document
        refused = document.get("error")
        if not isinstance(refused, dict):
            raise ServiceSilent(reason=f"HTTP {status}")
        raise ServiceRefusal(status, refused)

    def stream(self, language: str) -> Iterator[tuple[int | None, str, Document]]:
        """Yield what happens from now on: its number, its kind, and what it holds.

        Raises:
            ServiceSilent: If the line ends or says nothing.
            ServiceRefusal: If there is no place for one more listener.
        """
        try:
            with asked(
                self.path, "GET", "/v1/events", None, language=language, timeout_s=QUIET_S
            ) as response:
                if response.status >= 400:
                    found = _object(response.read(MAX_BYTES)).get("error")
                    raise ServiceRefusal(response.status, found if isinstance(found, dict) else {})
                for number, kind, content in messages(response):
                    yield number, kind, _object(content)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceSilent(reason=_reason(error)) from error
        raise ServiceSilent(reason="it ended the stream")


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__


def _object(content: bytes | str) -> ServiceAnswer:
    """Read a document.

    Raises:
        ServiceSilent: If it is none.
    """
    try:
        found = (
            json.loads(content, object_hook=ServiceAnswer) if len(content) <= MAX_BYTES else None
        )
    except (ValueError, RecursionError) as error:
        raise ServiceSilent(reason="it answered what is no JSON") from error
    if not isinstance(found, ServiceAnswer):
        raise ServiceSilent(reason="it answered what cannot be understood")
    return found


def told(error: UpdaterError, state: Text, language: str) -> dict[str, str]:
    """Return an error of ours as those of the service come."""
    return {
        "code": error.code, "what": error.what_text.render(language),
        "state": state.render(language), "remedy": error.remedy_text.render(language),
        "detail": error.detail or "",
    }  # fmt: skip
