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

from ncen_updater.agent.service.errors import refusal
from ncen_updater.common.i18n import Text
from ncen_updater.common.unix_http import ServiceSilent, asked, messages
from ncen_updater.common.unix_socket import connect

CONNECT_S = 10.0
#: The service gives a sign of life more often than this.
SILENT_S = 45.0
#: So long may the service be away, to start again.
AWAY_S = 120.0
MAX_BYTES = 64_000_000

Document = dict[str, Any]


class _Object(dict[str, Any]):
    """An object of an answer; what is missing in it is the fault of who answered."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        raise ServiceSilent(reason=Text("its answer has no '{name}'", {"name": name}))


@dataclass(frozen=True)
class StreamEvent:
    """One message of the stream.

    Attributes:
        kind: ``service`` for the present moment, else the kind of an event of the journal.
        data: What it holds.
    """

    kind: str
    data: Mapping[str, Any]


class Client:
    """Speaks with the service of one site.

    Args:
        path: The socket.
        language: Of sentences in answers.
        sleep: Waits between two tries to reach a service that starts again.
    """

    def __init__(
        self, path: Path, language: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.path = path
        self._language, self._sleep = language, sleep

    def reachable(self) -> bool:
        """Whether a service listens that may be spoken with."""
        try:
            connect(self.path, CONNECT_S).close()
        except OSError:
            return False
        return True

    def get(self, address: str, *, patiently: bool = False) -> Document:
        """Ask for something.

        Args:
            address: What.
            patiently: Wait for a service that starts again, as one that renewed itself.

        Raises:
            ServiceSilent: If no answer came that can be understood.
            UpdaterError: If it was refused, with the service's own code and words.
        """
        left = AWAY_S if patiently else 0.0
        while True:
            try:
                return self.call("GET", address)
            except ServiceSilent:
                if left <= 0:
                    raise
                left -= 1
                self._sleep(1.0)

    def call(self, method: str, address: str, body: Mapping[str, object] | None = None) -> Document:
        """Ask for something, or change something; errors as in :meth:`get`."""
        with self._asked(method, address, body, SILENT_S * 2) as response:
            return _document(response)

    def stream(self, after: int | None) -> Iterator[StreamEvent]:
        """Yield what happens after an event of the journal, or from now on, for ever.

        A service that goes away and comes back, as one that renews itself, is waited for.

        Raises:
            ServiceSilent: If it does not come back.
        """
        left = AWAY_S
        while True:
            try:
                query = "" if after is None else f"?after={after}"
                with self._asked("GET", f"/v1/events{query}", None, SILENT_S) as response:
                    for number, event in _events(response):
                        left = AWAY_S
                        after = number if number is not None else after
                        yield event
                raise ServiceSilent(reason="it ended the stream")
            except ServiceSilent:
                if left <= 0:
                    raise
                left -= 1
                self._sleep(1.0)

    @contextlib.contextmanager
    def _asked(
        self, method: str, address: str, body: Mapping[str, object] | None, timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            with asked(
                self.path, method, address, body, language=self._language, timeout_s=timeout_s
            ) as response:
                if response.status >= 400:
                    raise _refused(response)
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise ServiceSilent(reason=str(error) or type(error).__name__) from error


def _document(response: http.client.HTTPResponse) -> Document:
    content = response.read(MAX_BYTES + 1)
    try:
        document = json.loads(content, object_hook=_Object) if len(content) <= MAX_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ServiceSilent(reason="it answered what is no JSON") from error
    if not isinstance(document, dict):
        raise ServiceSilent(reason="it answered what cannot be understood")
    return document


def _refused(response: http.client.HTTPResponse) -> Exception:
    try:
        error = _document(response).get("error")
    except ServiceSilent:
        error = None
    if isinstance(error, dict):
        return refusal(error)
    return ServiceSilent(reason=f"HTTP {response.status}")


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[int | None, StreamEvent]]:
    for number, kind, content in messages(response):
        with contextlib.suppress(ValueError, RecursionError):
            data = json.loads(content, object_hook=_Object)
            if isinstance(data, dict):
                yield number, StreamEvent(kind, data)
