"""Client of the local API: HTTP over the Unix socket, with the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ncen_updater.agent.service.errors import parse_error_document
from ncen_updater.common.unix_http import (
    ResponseObject,
    ServiceUnresponsiveError,
    connect_unix_socket,
    read_events,
    read_response,
    report_connection_errors,
    send_request,
)

CONNECT_TIMEOUT_S = 10.0
#: The service sends keep-alives more often than this.
READ_TIMEOUT_S = 45.0
#: How long the client waits for a service that restarts.
RECONNECT_TIMEOUT_S = 120.0

#: Header with the path of the caller's configuration.
CONFIG_HEADER = "Ncen-Configuration"

Document = dict[str, Any]


@dataclass(frozen=True)
class StreamEvent:
    """One message of the event stream.

    Attributes:
        kind: ``service`` for the current state of the service, otherwise the kind of a journal
            event.
        data: Content of the message.
    """

    kind: str
    data: Mapping[str, Any]


class SiteServiceClient:
    """Client of the service of one site.

    Args:
        path: The socket.
        language: Language of texts in responses.
        config: The caller's configuration; a service with another configuration refuses requests.
        sleep: Waits between two attempts to reach a restarting service.
    """

    def __init__(
        self,
        path: Path,
        language: str,
        *,
        config: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self._headers = {} if config is None else {CONFIG_HEADER: quote(str(config.resolve()))}
        self._language, self._sleep = language, sleep

    def is_reachable(self) -> bool:
        """Return whether a service accepts connections of this user."""
        try:
            connect_unix_socket(self.path, CONNECT_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def get(self, path: str, *, patiently: bool = False) -> Document:
        """GET a document.

        Args:
            path: Path of the request.
            patiently: Whether to wait for a service that restarts, for example after a self-update.

        Raises:
            ServiceUnresponsiveError: If there was no valid response.
            UpdaterError: If the service refused the request; with the service's code and texts.
        """
        left = RECONNECT_TIMEOUT_S if patiently else 0.0
        while True:
            try:
                return self.call("GET", path)
            except ServiceUnresponsiveError:
                if left <= 0:
                    raise
                left -= 1
                self._sleep(1.0)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Document:
        """Send a request; errors as in :meth:`get`."""
        with self._request(method, path, body, READ_TIMEOUT_S * 2) as response:
            return read_response(response)

    def stream(
        self, after: int | None, report_away: Callable[[], None] = lambda: None
    ) -> Iterator[StreamEvent]:
        """Yield the events after an event of the journal, or from now on, without end.

        Waits for a service that restarts, for example after a self-update.

        Args:
            after: Number of the event.
            report_away: Called at each attempt while the service is unreachable.

        Raises:
            ServiceUnresponsiveError: If the service does not restart in time.
        """
        left = RECONNECT_TIMEOUT_S
        while True:
            try:
                query = "" if after is None else f"?after={after}"
                with self._request("GET", f"/v1/events{query}", None, READ_TIMEOUT_S) as response:
                    for number, event in _parse_events(response):
                        left = RECONNECT_TIMEOUT_S
                        after = number if number is not None else after
                        yield event
                raise ServiceUnresponsiveError(reason="event stream closed")
            except ServiceUnresponsiveError:
                if left <= 0:
                    raise
                left -= 1
                report_away()
                self._sleep(1.0)

    @contextlib.contextmanager
    def _request(
        self, method: str, address: str, body: Mapping[str, object] | None, timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        with (
            report_connection_errors(),
            send_request(
                self.path,
                method,
                address,
                body,
                language=self._language,
                timeout_s=timeout_s,
                headers=self._headers,
            ) as response,
        ):
            if response.status >= 400:
                raise _parse_error(response)
            yield response


def _parse_error(response: http.client.HTTPResponse) -> Exception:
    try:
        error = read_response(response).get("error")
    except ServiceUnresponsiveError:
        error = None
    if isinstance(error, dict):
        return parse_error_document(error)
    return ServiceUnresponsiveError(reason=f"HTTP {response.status}")


def _parse_events(response: http.client.HTTPResponse) -> Iterator[tuple[int | None, StreamEvent]]:
    for number, kind, content in read_events(response):
        with contextlib.suppress(ValueError, RecursionError):
            data = json.loads(content, object_hook=ResponseObject)
            if isinstance(data, dict):
                yield number, StreamEvent(kind, data)
