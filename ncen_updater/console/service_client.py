"""Client of the site's service, with the status of its last answer.

The socket is asked as the person who started the console: the kernel tells the service who that is,
and nothing that a browser sends does.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.unix_http import (
    ServiceUnresponsiveError,
    parse_response,
    read_events,
    read_response,
    report_connection_errors,
    send_request,
)

#: The service answers within this, or says that something takes longer.
READ_TIMEOUT_S = 40.0
#: It gives a sign of life on a stream more often than this.
STREAM_TIMEOUT_S = 45.0
#: So many requests are made at a time: the service counts those of a person, and one stream and
#: other programs of theirs have to find a place beside them.
MAX_PARALLEL = 4
#: The service had no place for this person's request, and did nothing of it: it is made again.
TOO_MANY_CONNECTIONS_CODE, RETRY_S, MAX_TRIES = "NU-9322", 0.25, 40

#: Orders that look or fetch, and decide nothing: all else takes the password of who came in by one.
HARMLESS_ORDERS = frozenset({"check", "import", "prepare", "rehearse"})

Document = Mapping[str, Any]


class ServiceRefusedError(Exception):
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
            for name in ("code", "title", "state", "remedy", "detail")
        }
        values = error.get("values")
        self.values: Document = values if isinstance(values, dict) else {}


@dataclass(frozen=True)
class LastStatus:
    """What the service said last of the site.

    Attributes:
        status: The answer.
        at: When it came.
    """

    status: Document
    at: datetime

    @property
    def zone(self) -> tzinfo | None:
        """Return the time zone of the site; None for the machine's own."""
        try:
            return ZoneInfo(self.status["service"]["timezone"])
        except (
            LookupError,
            TypeError,
            ValueError,
            OSError,
        ):  # of an older service, or unknown here
            return None


class ServiceClient:
    """Asks the service of one site.

    Args:
        path: The socket.
        now: The clock of the wall.
    """

    #: Whether people type their password once more for what they answer for.
    requires_password = False

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path, self.now = path, now
        self._known: LastStatus | None = None
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(MAX_PARALLEL)

    def get_last_status(self) -> LastStatus | None:
        """Return what was known last; None where nothing ever was."""
        with self._lock:
            return self._known

    def get_status(self, language: str) -> Document:
        """Ask how the site is, and keep that; errors as in :meth:`get`."""
        found = self.get("/v1/status", language)
        with self._lock:
            self._known = LastStatus(found, self.now())
        return found

    def get(self, path: str, language: str) -> Document:
        """Ask for something.

        Raises:
            ServiceUnresponsiveError: If no answer came that can be understood.
            ServiceRefusedError: If it was refused.
        """
        return self.call("GET", path, language)

    def call(
        self, method: str, path: str, language: str, body: Mapping[str, object] | None = None
    ) -> Document:
        """Ask for something, or change something; errors as in :meth:`get`."""
        for _ in range(MAX_TRIES):
            try:
                return self._call_once(method, path, language, body)
            except ServiceRefusedError as refused:
                if refused.error["code"] != TOO_MANY_CONNECTIONS_CODE:
                    raise
            time.sleep(RETRY_S)
        return self._call_once(method, path, language, body)

    def _call_once(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None
    ) -> Document:
        with (
            report_connection_errors(),
            self._turn,
            self._request(method, address, body, language, READ_TIMEOUT_S) as response,
        ):
            return self._parse_response(response)

    def call_with_password(
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

    def close(self) -> None:
        """Let go of what is kept for the person."""

    @contextlib.contextmanager
    def _request(
        self, method: str, address: str, body: Mapping[str, object] | None, language: str,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:  # fmt: skip
        with send_request(
            self.path, method, address, body, language=language, timeout_s=timeout_s
        ) as response:
            yield response

    def _parse_response(self, response: http.client.HTTPResponse) -> Document:
        document, status = read_response(response), response.status
        if status < 400:
            return document
        refused = document.get("error")
        if not isinstance(refused, dict):
            raise ServiceUnresponsiveError(reason=f"HTTP {status}")
        raise ServiceRefusedError(status, refused)

    def stream(self, language: str) -> Iterator[tuple[int | None, str, Document]]:
        """Yield what happens from now on: its number, its kind, and what it holds.

        Raises:
            ServiceUnresponsiveError: If the line ends or says nothing.
            ServiceRefusedError: If there is no place for one more listener.
        """
        with (
            report_connection_errors(),
            self._request("GET", "/v1/events", None, language, STREAM_TIMEOUT_S) as response,
        ):
            if response.status >= 400:
                found = read_response(response).get("error")
                raise ServiceRefusedError(response.status, found if isinstance(found, dict) else {})
            for number, kind, content in read_events(response):
                yield number, kind, parse_response(content)
        raise ServiceUnresponsiveError(reason="event stream closed")


def build_error_document(error: UpdaterError, state: LazyText, language: str) -> dict[str, str]:
    """Return an error of ours as those of the service come."""
    return {
        "code": error.code, "title": error.title_text.render(language),
        "state": state.render(language), "remedy": error.remedy_text.render(language),
        "detail": error.detail or "",
    }  # fmt: skip
