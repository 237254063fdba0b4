"""The client of the local interface: the standard library's HTTP over the Unix socket."""

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
#: The service gives a sign of life more often than this.
READ_TIMEOUT_S = 45.0
#: So long may the service be away, to start again.
RECONNECT_TIMEOUT_S = 120.0

#: Names the configuration that the caller means.
CONFIG_HEADER = "Ncen-Configuration"

Document = dict[str, Any]


@dataclass(frozen=True)
class StreamEvent:
    """One message of the stream.

    Attributes:
        kind: ``service`` for the present moment, else the kind of an event of the journal.
        data: What it holds.
    """

    kind: str
    data: Mapping[str, Any]


class SiteServiceClient:
    """Speaks with the service of one site.

    Args:
        path: The socket.
        language: Of sentences in answers.
        config: The configuration that the caller means; a service of another one refuses.
        sleep: Waits between two tries to reach a service that starts again.
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
        """Tell whether a service listens that may be spoken with."""
        try:
            connect_unix_socket(self.path, CONNECT_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def get(self, path: str, *, patiently: bool = False) -> Document:
        """Ask for something.

        Args:
            path: What.
            patiently: Wait for a service that starts again, as one that renewed itself.

        Raises:
            ServiceUnresponsiveError: If no answer came that can be understood.
            UpdaterError: If it was refused, with the service's own code and words.
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
        """Ask for something, or change something; errors as in :meth:`get`."""
        with self._request(method, path, body, READ_TIMEOUT_S * 2) as response:
            return read_response(response)

    def stream(
        self, after: int | None, report_away: Callable[[], None] = lambda: None
    ) -> Iterator[StreamEvent]:
        """Yield what happens after an event of the journal, or from now on, for ever.

        A service that goes away and comes back, as one that renews itself, is waited for.

        Args:
            after: Number of the event.
            report_away: Called at each try while the service is away.

        Raises:
            ServiceUnresponsiveError: If it does not come back.
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
