"""Client of the site's service; keeps the last status that it returned.

Requests are sent as the user who started the console: the kernel tells the service the UID of the
peer. Nothing that a browser sends can change the user.
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

#: The service responds within this time, or reports that the operation continues.
READ_TIMEOUT_S = 40.0
#: The service sends keep-alives on an event stream more often than this.
STREAM_TIMEOUT_S = 45.0
#: Parallel requests: the service limits the connections of a user, and one event stream and other
#: programs of the user need connections as well.
MAX_PARALLEL = 4
#: Error of the service at its limit of connections; it did nothing, so the request is repeated.
TOO_MANY_CONNECTIONS_CODE, RETRY_S, MAX_TRIES = "NU-9322", 0.25, 40

#: Jobs that only read or download. All other requests that change something need the password of a
#: user who logged in with one.
PREPARATORY_JOBS = frozenset({"check", "import", "prepare", "rehearse"})

Document = Mapping[str, Any]


class ServiceRefusedError(Exception):
    """Error document that the service returned.

    Args:
        status: HTTP status.
        error: ``code``, ``title``, ``state``, ``remedy`` and ``detail``.
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
    """The last status that the service returned.

    Attributes:
        status: The status document.
        at: When it was received.
    """

    status: Document
    at: datetime

    @property
    def zone(self) -> tzinfo | None:
        """Return the time zone of the site; None for the machine's time zone."""
        try:
            return ZoneInfo(self.status["service"]["timezone"])
        except (
            LookupError,
            TypeError,
            ValueError,
            OSError,
        ):  # from an older service, or a zone unknown on this machine
            return None


class ServiceClient:
    """Client of the service of one site.

    Args:
        path: Socket of the service.
        now: The wall clock.
    """

    #: Whether decisions require the user's password again.
    requires_password = False

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path, self.now = path, now
        self._last_status: LastStatus | None = None
        self._lock = threading.Lock()
        self._parallel = threading.BoundedSemaphore(MAX_PARALLEL)

    def get_last_status(self) -> LastStatus | None:
        """Return the last known status; None if there was none yet."""
        with self._lock:
            return self._last_status

    def get_status(self, language: str) -> Document:
        """GET the status of the site and keep it; errors as in :meth:`get`."""
        status = self.get("/v1/status", language)
        with self._lock:
            self._last_status = LastStatus(status, self.now())
        return status

    def get(self, path: str, language: str) -> Document:
        """GET a document.

        Raises:
            ServiceUnresponsiveError: If there was no valid response.
            ServiceRefusedError: If the service refused the request.
        """
        return self.call("GET", path, language)

    def call(
        self, method: str, path: str, language: str, body: Mapping[str, object] | None = None
    ) -> Document:
        """Send a request; retry at the limit of connections. Errors as in :meth:`get`."""
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
            self._parallel,
            self._request(method, address, body, language, READ_TIMEOUT_S) as response,
        ):
            return self._parse_response(response)

    def call_with_password(
        self, method: str, address: str, language: str, body: Mapping[str, object] | None,
        secret: str, origin: str = "",
    ) -> Document:  # fmt: skip
        """Send a request that may need the user's password; errors as in :meth:`get`.

        Args:
            method: HTTP method.
            address: Path of the request.
            language: Language of texts in the response.
            body: Sent as JSON.
            secret: The user's password, if one is needed.
            origin: Client address of the browser.
        """
        return self.call(method, address, language, body)

    def close(self) -> None:
        """Release the user's connection, if the client has one."""

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
        """Yield the events from now on: number, kind and document.

        Raises:
            ServiceUnresponsiveError: If the stream ends or is silent.
            ServiceRefusedError: If the service is at its limit of event streams.
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
    """Return a local error in the form of the service's error documents."""
    return {
        "code": error.code, "title": error.title_text.render(language),
        "state": state.render(language), "remedy": error.remedy_text.render(language),
        "detail": error.detail or "",
    }  # fmt: skip
