"""The few places that the service has for one person: pages take none, and lose nothing by it."""

from __future__ import annotations

import http.client
import socket as sockets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.cli.service_client import ServiceSiteClient
from ncen_updater.agent.service.api import server
from ncen_updater.agent.service.api.app import MAX_STREAMS
from ncen_updater.agent.service.api.server import TOO_MANY_RESPONSE, AdmissionController
from ncen_updater.agent.service.api_client import SiteServiceClient
from ncen_updater.agent.service.errors import RequestRefusedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import TOO_MANY_STREAMS
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.unix_http import connect_unix_socket
from ncen_updater.console.inspection_poller import EventFollower, InspectionPoller
from ncen_updater.console.service_client import ServiceClient, ServiceRefusedError
from ncen_updater.login.user_proxy import send_request
from tests.agent.service.api.conftest import Counter
from tests.agent.service.api.serving import answering
from tests.support.forks import DEADLINE_S


@dataclass
class OnePlace:
    """A service with one connection for each user."""

    counter: Counter
    path: Path
    limits: AdmissionController[Any]

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Occupy the only connection until an inspection has ended."""
        self.counter.inspector.door.clear()
        body = {"kind": "findings"}
        number = ServiceClient(self.path).call("POST", "/v1/inspections", "en", body)["id"]
        self.until(lambda: not self.limits._held)
        head = f"GET /v1/inspections/{number}?wait=30 HTTP/1.1\r\nHost: x\r\n\r\n"
        with connect_unix_socket(self.path, DEADLINE_S) as line:
            line.sendall(head.encode())
            self.until(lambda: bool(self.limits._busy))
            try:
                yield
            finally:
                self.counter.inspector.door.set()
                self.until(lambda: not self.limits._busy)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until the service has seen something."""
        while not holds():
            assert self.path.exists()


@pytest.fixture
def one(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnePlace]:
    made: list[AdmissionController[Any]] = []

    def limits(_: int, together: int, __: object) -> AdmissionController[Any]:
        made.append(AdmissionController(1, together, ()))
        return made[-1]

    monkeypatch.setattr(server, "AdmissionController", limits)
    with answering(counter) as path:
        yield OnePlace(counter, path, made[0])


def test_evicted_request_is_repeated(one: OnePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    service, refused = ServiceClient(one.path), threading.Event()
    real = service._call_once

    def called(*request: Any) -> Any:
        try:
            return real(*request)
        except ServiceRefusedError:
            refused.set()
            one.counter.inspector.door.set()
            raise

    monkeypatch.setattr(service, "_call_once", called)
    with one.taken():
        assert service.get("/v1/jobs", "en") == {"jobs": []}
    assert refused.is_set()


def test_rejected_request_reports_its_reason(
    one: OnePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the body is not read: the reason stands in the earlier answer."""
    monkeypatch.setattr("ncen_updater.console.service_client.MAX_TRIES", 1)
    body = {"reason": "x" * 500_000}
    with one.taken():
        with pytest.raises(ServiceRefusedError, match="NU-9322"):
            ServiceClient(one.path).call("POST", "/v1/holds", "en", body)
        with pytest.raises(UpdaterError, match="NU-9322"):
            SiteServiceClient(one.path, "en").call("POST", "/v1/holds", body)


def test_early_rejection_is_delivered(tmp_path: Path) -> None:
    """What asks for a person hands over a connection on which the answer is already there."""
    path = tmp_path / "api.sock"
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        gone = threading.Event()

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.sendall(TOO_MANY_RESPONSE)
            connection.close()
            gone.set()

        thread = threading.Thread(target=refuse)
        thread.start()
        request = {"method": "POST", "address": "/v1/holds", "body": {"reason": "x" * 3_000_000}}
        with send_request(path, request) as line:
            thread.join()
            response = http.client.HTTPResponse(line)
            response.begin()
            assert (response.status, b"NU-9322" in response.read()) == (503, True)
            response.close()


def test_inspection_occupies_no_connection(counter: Counter, socket: Path) -> None:
    """No request of a page waits for an inspection: it would have a place for half a minute."""
    asked: list[str] = []

    class Noted(ServiceClient):
        def get(self, path: str, language: str) -> Any:
            asked.append(path)
            if len(asked) == 3:
                counter.inspector.door.set()
            return super().get(path, language)

    counter.inspector.door.clear()
    looking = InspectionPoller(Noted(socket))
    while (found := looking.inspect("findings", "m", {"language": "en"})).is_loading:
        pass
    assert found.document is not None
    assert len(asked) >= 3
    assert set(asked) == {"/v1/inspections/1"}


def test_pages_are_updated_by_polling_without_a_stream(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is polled where no stream reports it."""
    monkeypatch.setattr("ncen_updater.console.inspection_poller.STREAM_RETRY_S", 0.01)
    tried = threading.Semaphore(0)

    class Noted(ServiceClient):
        def stream(self, language: str) -> Iterator[Any]:
            tried.release()
            return super().stream(language)

    client = SiteServiceClient(socket, "en")
    streams = [client.stream(None) for _ in range(MAX_STREAMS)]
    for stream in streams:
        assert next(stream).kind == "service"
    following = EventFollower(Noted(socket))
    following.start()
    try:
        for _ in range(2):  # what came of the first try is there by the second
            assert tried.acquire(timeout=DEADLINE_S)
        number, moment, _ = following.get_activity()
        assert number and moment is not None and "running" in moment
    finally:
        following.stop()
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]


def test_job_is_followed_by_polling_without_a_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three pages of the person listen already: a command asks instead, to the order's end."""
    asked: list[str] = []

    class Full:
        def stream(self, after: int, *_: object) -> Iterator[Any]:
            raise RequestRefusedError(TOO_MANY_STREAMS, count=3)
            yield after

        def get(self, address: str, *, patiently: bool = False) -> Any:
            del patiently
            asked.append(address)
            if address == "/v1/status":
                return {"service": {"running": None, "reason": None}}
            return {"ended_at": None if len(asked) < 5 else "now"}

        def call(self, method: str, address: str) -> Any:
            return self.get(address)

    monkeypatch.setattr("ncen_updater.agent.cli.service_client.sleep", lambda _: None)
    site = ServiceSiteClient(None, Full())  # type: ignore[arg-type]
    site._follow_job("check", {"id": 7, "event": 1, "at": ""}, SilentProgress())
    assert asked == ["/v1/jobs/7", "/v1/status"] * 2 + ["/v1/jobs/7"]
