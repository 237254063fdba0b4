"""Tests of the client before a faulty or interrupted server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from ncen_updater.agent.cli.service_client import ServiceSiteClient
from ncen_updater.agent.service.api_client import SiteServiceClient, StreamEvent
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ExitCode
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.unix_http import ServiceUnresponsiveError


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Give one answer to anyone who connects, and close."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(8)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        connection.sendall(answer)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


ODD = {
    "nothing": b"",
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no JSON": http(b"<html>"),
    "no object": http(b"[1]"),
    "half a body": http(b'{"a": ', length=100),
    "a deep one": http(b"[" * 100_000),
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500,
    "a long header": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
    "an error without words": http(b"<html>", "500 Oh"),
    "an error that is none": http(b'{"error": 7}', "502 Oh"),
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("name", ODD)
def test_unexpected_answer_is_reported(tmp_path: Path, name: str) -> None:
    path = tmp_path / "api.sock"
    with answering(path, ODD[name]), pytest.raises(ServiceUnresponsiveError):
        SiteServiceClient(path, "en").get("/v1/status")


def test_missing_field_in_an_answer_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with answering(path, http(b'{"service": {}}')):
        found = SiteServiceClient(path, "en").get("/v1/status")
    for part in (found, found["service"]):
        with pytest.raises(ServiceUnresponsiveError, match="running"):
            part["running"]
    assert found.get("running") is None


@pytest.mark.parametrize(
    "error",
    [{}, {"code": 7, "title": None, "values": [], "exit_code": "x"}, {"values": {"what": 1}}],
)
def test_error_answer_of_any_form_is_an_error_with_text(tmp_path: Path, error: object) -> None:
    path = tmp_path / "api.sock"
    body = json.dumps({"error": error}).encode()
    with answering(path, http(body, "409 Conflict")), pytest.raises(UpdaterError) as caught:
        SiteServiceClient(path, "en").call("POST", "/v1/jobs", {"kind": "check"})
    assert str(caught.value)
    assert caught.value.exit_code is ExitCode.ERROR


def test_broken_stream_is_retried_and_then_abandoned(tmp_path: Path) -> None:
    path, slept, away = tmp_path / "api.sock", list[float](), list[int]()
    stream = b'event: service\ndata: {"reason": 1}\n\ndata: {\n\nid: x\ndata: [1]\n\n: half'
    client = SiteServiceClient(path, "en", sleep=slept.append)
    seen = []
    with answering(path, http(stream, length=1000)):
        for event in client.stream(None):
            seen.append(event.data["reason"])
            if len(seen) == 3:
                break
    assert seen == [1, 1, 1], "what can be understood is told, each time that it comes back"
    with answering(tmp_path / "none.sock", b""), pytest.raises(ServiceUnresponsiveError):
        gone = SiteServiceClient(tmp_path / "none.sock", "en", sleep=slept.append)
        list(gone.stream(None, lambda: away.append(len(slept))))
    assert len(slept) > 100
    assert away == list(range(2, len(slept))), "said before each wait"


def test_restarting_service_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: a renewal that went well ended with "The service no longer answers"."""
    answers: list[object] = [
        ServiceUnresponsiveError(reason="away"),
        ServiceUnresponsiveError(reason="away"),
        {"x": 1},
    ]

    def call(*_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    waits: list[float] = []
    client = SiteServiceClient(tmp_path / "socket", "en", sleep=waits.append)
    monkeypatch.setattr(client, "call", call)
    with pytest.raises(ServiceUnresponsiveError):
        client.get("/v1/jobs/1")
    assert client.get("/v1/jobs/1", patiently=True) == {"x": 1}
    assert len(waits) == 1


def test_agent_update_waits_for_the_new_agent() -> None:
    """The service ends with the order, and starts again as the new agent."""

    class Renewed:
        def call(self, method: str, address: str, form: object) -> object:
            return {"id": 7, "event": 1, "at": ""}

        def stream(self, after: int, report_away: object) -> Iterator[StreamEvent]:
            yield StreamEvent("job-ended", {"data": {"job": 7}})

        def get(self, address: str, *, patiently: bool = False) -> object:
            if not patiently:
                raise ServiceUnresponsiveError(reason="Connection refused")
            if address == "/v1/openapi.json":
                return {"info": {"version": "0.2.0"}}
            document = {"to": "0.2.0", "lines": ["chosen"]}
            return {"result": {"exit_code": 0, "document": document}}

    run = SimpleNamespace(language="en", make_progress=lambda: nullcontext(SilentProgress()))
    site = ServiceSiteClient(run, Renewed())  # type: ignore[arg-type]
    said = site.update_agent(None, retry=False)
    assert (said.exit_code, said.lines[0]) == (ExitCode.OK, "chosen")
    assert str(said.lines[1]) == "Running on trial: ncen-updater 0.2.0"
