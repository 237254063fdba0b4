"""The real server: who asks is told by the kernel, and no client can hold it up."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
from pathlib import Path

import pytest

from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.service.api import server
from ncen_updater.agent.service.client import Client
from ncen_updater.agent.service.errors import ServiceSilent
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.unix_socket import connect
from tests.agent.service.api.conftest import NEXT, Counter
from tests.agent.service.api.serving import answering


def say(path: Path, content: bytes) -> bytes:
    """Send bytes and return everything that comes back."""
    with connect(path, 30) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):  # it did not read everything
            while more := connection.recv(65536):
                said += more
        return said


def test_the_kernel_says_who_asks(counter: Counter) -> None:
    with answering(counter) as path:
        said = say(
            path,
            b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Remote-Uid: 8\r\n"
            b"X-Remote-User: mail\r\nNcen-Updater.Peer-Uid: 8\r\n\r\n",
        )
    assert f'"uid": {os.getuid()}'.encode() in said


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET " + b"/x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"x" * 20_000 + b"\r\n\r\n",
        b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n",
        b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://elsewhere/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\x00\xff" * 100,
    ],
)
def test_what_is_no_request(counter: Counter, content: bytes) -> None:
    before = counter.rows()
    with answering(counter) as path:
        said = say(path, content)
        assert b" 500 " not in said.split(b"\r\n", 1)[0]
        assert Client(path, "en").get("/v1/status")["site"] == "ke-1"
    assert counter.rows() == before


def test_clients_that_say_nothing_hold_nobody_up(counter: Counter) -> None:
    with answering(counter) as path:
        idle = [connect(path, 30) for _ in range(30)]
        try:
            assert Client(path, "en").get("/v1/status")["site"] == "ke-1"
        finally:
            for connection in idle:
                connection.close()


def test_streams_leave_room_for_requests(counter: Counter) -> None:
    with answering(counter) as path:
        client = Client(path, "en")
        streams = [client.stream(0) for _ in range(6)]
        for stream in streams:
            assert next(stream).kind == "service"
        assert client.get("/v1/status")["site"] == "ke-1"
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connect(path, 30)
        connection.request("GET", "/v1/events")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        connection.close()
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]


def test_many_write_at_once(counter: Counter) -> None:
    counter.know(NEXT)
    codes: list[str] = []

    def order(client: Client) -> None:
        try:
            client.call("POST", "/v1/orders", {"kind": "check"})
            codes.append("given")
        except UpdaterError as error:
            codes.append(error.code)

    with answering(counter) as path:
        people = [threading.Thread(target=order, args=(Client(path, "en"),)) for _ in range(8)]
        for person in people:
            person.start()
        for person in people:
            person.join()
    assert sorted(codes) == ["NU-9318"] * 7 + ["given"]
    with Journal.open(counter.site.journal) as journal:  # its chain is checked
        assert [event.kind for event in journal.events()] == ["ordered"]


def test_after_its_end_nobody_answers(counter: Counter) -> None:
    with answering(counter) as path:
        client = Client(path, "en")
        assert client.reachable()
    assert not client.reachable()
    with pytest.raises(ServiceSilent):
        client.get("/v1/status")
    assert not path.exists()


def test_those_who_send_a_byte_now_and_then_hold_nobody_up(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.5)
    over, busy = threading.Event(), threading.Semaphore(0)
    answer = server._Connection.communicate

    def counted(connection: server._Connection) -> bool:
        busy.release()
        return answer(connection)

    monkeypatch.setattr(server._Connection, "communicate", counted)

    def drip(path: Path) -> None:
        with connect(path, 30) as connection, contextlib.suppress(OSError):
            connection.sendall(b"G")
            while not over.wait(0.05):
                connection.sendall(b"G")

    with answering(counter) as path:
        slow = [threading.Thread(target=drip, args=(path,)) for _ in range(server.THREADS + 2)]
        for thread in slow:
            thread.start()
        try:
            for _ in range(server.THREADS):
                assert busy.acquire(timeout=30), "each thread has somebody to wait for"
            with contextlib.closing(connect(path, 30)) as connection:
                connection.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
                assert connection.recv(12).startswith(b"HTTP/1.")
        finally:
            over.set()
            for thread in slow:
                thread.join()


def test_a_stream_outlasts_the_time_for_its_request(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    with answering(counter) as path:
        cut = threading.Event()
        real = server._Connection._read_no_more

        def noted(connection: server._Connection) -> None:
            real(connection)
            cut.set()

        monkeypatch.setattr(server._Connection, "_read_no_more", noted)
        events = Client(path, "en").stream(None)
        assert next(events).kind == "service"
        assert cut.wait(30)
        with Journal.open(counter.site.journal) as journal:
            journal.note("after-the-cut")
        assert next(event.kind for event in events if event.kind != "service") == "after-the-cut"
