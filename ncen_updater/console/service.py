"""What the service of the site answers, and what was known of the site when it last did.

The socket is asked as the person who started the console: the kernel tells the service who that is,
and nothing that a browser sends does.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.unix_http import ServiceSilent, asked, messages

#: The service answers within this, or says that something takes longer.
SILENT_S = 40.0
#: It gives a sign of life on a stream more often than this.
QUIET_S = 45.0
MAX_BYTES = 64_000_000
#: So many requests are made at a time: the service counts those of a person, and one stream and
#: other programs of theirs have to find a place beside them.
TOGETHER = 4
#: The service had no place for this person's request, and did nothing of it: it is made again.
NO_PLACE, AGAIN_S, TRIES = "NU-9322", 0.25, 40

#: Orders that look or fetch, and decide nothing: all else takes the password of who came in by one.
HARMLESS_ORDERS = frozenset({"check", "import", "prepare", "rehearse"})

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
        raise ServiceSilent(reason=Text("its answer has no '{name}'", {"name": name}))


@dataclass(frozen=True)
class Known:
    """What the service said last of the site.

    Attributes:
        status: The answer.
        at: When it came.
    """

    status: Document
    at: datetime

    @property
    def zone(self) -> tzinfo | None:
        """The zone in which people of the site speak of hours; None for the machine's own."""
        try:
            return ZoneInfo(self.status["service"]["timezone"])
        except (
            LookupError,
            TypeError,
            ValueError,
            OSError,
        ):  # of an older service, or unknown here
            return None


class SiteService:
    """Asks the service of one site.

    Args:
        path: The socket.
        now: The clock of the wall.
    """

    #: Whether people type their password once more for what they answer for.
    asks_secret = False

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path, self.now = path, now
        self._known: Known | None = None
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(TOGETHER)

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
        for _ in range(TRIES):
            try:
                return self._called(method, address, language, body)
            except ServiceRefusal as refused:
                if refused.error["code"] != NO_PLACE:
                    raise
            time.sleep(AGAIN_S)
        return self._called(method, address, language, body)

    def _called(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None
    ) -> Document:
        try:
            with self._turn, self._asked(method, address, body, language, SILENT_S) as response:
                return self._document(response)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceSilent(reason=_reason(error)) from error

    def decide(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None,
        secret: str, origin: str = "",
    ) -> Document:  # fmt: skip
        """Have something done that a person answers for; errors as in :meth:`get`.

        Args:
            method: Of HTTP.
            address: What is asked for.
            language: Of sentences in the answer.
            body: Sent as JSON.
            secret: Of the person, where one is asked for.
            origin: The address at which it was typed.
        """
        del secret, origin  # who has this terminal has said who they are
        return self.call(method, address, language, body)

    def end(self) -> None:
        """Let go of what is kept for the person."""

    @contextlib.contextmanager
    def _asked(
        self, method: str, address: str, body: Mapping[str, object] | None, language: str,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:  # fmt: skip
        with asked(
            self.path, method, address, body, language=language, timeout_s=timeout_s
        ) as response:
            yield response

    def _document(self, response: http.client.HTTPResponse) -> Document:
        document, status = _object(response.read(MAX_BYTES + 1)), response.status
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
            with self._asked("GET", "/v1/events", None, language, QUIET_S) as response:
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
