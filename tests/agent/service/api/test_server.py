"""Tests of the real server: callers are identified by the kernel, and no client blocks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ncen_updater.agent.service.api import server
from ncen_updater.agent.service.api.app import MAX_STREAMS
from ncen_updater.agent.service.api.server import AdmissionController
from ncen_updater.agent.service.api_client import SiteServiceClient
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import http_server
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.unix_http import ServiceUnresponsiveError, connect_unix_socket
from tests.agent.service.api.conftest import NEXT, OPERATOR, READER, Counter, uid_of
from tests.agent.service.api.serving import answering
from tests.support.forks import DEADLINE_S


def send_raw(path: Path, content: bytes) -> bytes:
    """Send bytes and return everything that comes back."""
    with connect_unix_socket(path, 30) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):  # it did not read everything
            while more := connection.recv(65536):
                said += more
        return said


def test_caller_is_identified_by_the_kernel(counter: Counter) -> None:
    with answering(counter) as path:
        said = send_raw(
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
def test_malformed_request_is_rejected(counter: Counter, content: bytes) -> None:
    before = counter.rows()
    with answering(counter) as path:
        said = send_raw(path, content)
        assert b" 500 " not in said.split(b"\r\n", 1)[0]
        assert SiteServiceClient(path, "en").get("/v1/status")["site"] == "ke-1"
    assert counter.rows() == before


def test_silent_clients_do_not_block_others(counter: Counter) -> None:
    with answering(counter) as path:
        idle = [connect_unix_socket(path, 30) for _ in range(30)]
        try:
            assert SiteServiceClient(path, "en").get("/v1/status")["site"] == "ke-1"
        finally:
            for connection in idle:
                connection.close()


#: As another user: 60 connections, each of which says a letter now and then, and comes again.
DRIPS = """
import os, select, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
def come():
    one = socket.socket(socket.AF_UNIX); one.settimeout(0.2)
    try: one.connect("api.sock")
    except OSError: one.close(); return None
    return one
held, refused, most, rounds = [None] * 60, 0, 0, 0
while True:
    for number, one in enumerate(held):
        if one is None: one = held[number] = come()
        if one is None: continue
        try:
            if one.send(b"G", socket.MSG_DONTWAIT) and select.select([one], [], [], 0)[0]:
                refused += b" 503 " in one.recv(200); one.close(); held[number] = None
        except OSError: refused += 1; one.close(); held[number] = None
    rounds += 1
    if rounds == 3: print(refused, flush=True)
    select.select([], [], [], 0.3)
"""


#: As another user: 20 requests, each of which may be tried again as often as is said.
ASKS = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
left, answered = int(sys.argv[2]), 0
while answered < 20:
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect("api.sock")
            one.sendall(b"GET /v1/jobs HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            said = one.recv(4096)
        except OSError:
            said = b""
    if b" 200 " in said[:20]: answered += 1; continue
    if not left: break
    left -= 1
print(answered)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("user", ["root", OPERATOR, READER])
def test_slow_client_does_not_block_others(counter: Counter, user: str) -> None:
    """Neither root, nor another member, nor other programs of that user."""
    with answering(counter) as path:
        path.chmod(0o666)
        path.parent.chmod(0o755)
        words = [sys.executable, "-c", DRIPS, str(uid_of(READER))]
        with subprocess.Popen(words, cwd=path.parent, stdout=subprocess.PIPE) as attacker:
            try:
                assert attacker.stdout is not None
                assert int(attacker.stdout.readline()) > 0, "nobody was refused"
                asks = [sys.executable, "-c", ASKS, str(uid_of(user) if user != "root" else 0)]
                asks.append("200" if user == READER else "0")
                asked = subprocess.run(
                    asks, cwd=path.parent, capture_output=True, check=False, timeout=DEADLINE_S
                )
                assert asked.stdout == b"20\n", asked
                assert attacker.poll() is None, "it was there all the time"
            finally:
                attacker.kill()


def test_evicted_request_is_not_executed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for the rest of its request makes place for a newer one, and hears so."""
    monkeypatch.setattr(
        server,
        "AdmissionController",
        lambda each, together, _: AdmissionController(1, together, ()),
    )
    before = counter.rows()
    body = b'{"reason": "fair"}'
    with answering(counter) as path, connect_unix_socket(path, 30) as slow:
        slow.sendall(
            b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert SiteServiceClient(path, "en").get("/v1/status")["site"] == "ke-1"
        with contextlib.suppress(OSError):
            slow.sendall(body)
        said = slow.recv(65536)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"NU-9322" in said
    assert counter.rows() == before


def test_header_has_its_own_timeout(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the header a client may take longer for the body; without it, it is cut off."""
    monkeypatch.setattr(http_server, "HEADER_TIMEOUT_S", 0.2)
    with answering(counter) as path:
        with connect_unix_socket(path, 30) as slow:
            slow.sendall(b"GET /v1/status HTTP/1.1\r\n")
            assert b" 200 " not in slow.recv(4096)
        body = b'{"reason": "fair"}'
        with connect_unix_socket(path, 30) as honest:
            honest.sendall(
                b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            ended = threading.Event()
            threading.Timer(0.6, ended.set).start()
            assert ended.wait(DEADLINE_S)
            honest.sendall(body)
            assert b" 201 " in honest.recv(4096)


def test_unread_answer_times_out(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader is cut off, whoever waits for it."""
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.1)
    monkeypatch.setattr(http_server, "RESPONSE_TIMEOUT_S", 0.1)
    over = threading.Event()
    monkeypatch.setattr(type(counter.snapshots), "settings", property(lambda _: over.wait(30)))
    with answering(counter) as path, connect_unix_socket(path, 30) as waiting:
        waiting.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert waiting.recv(4096) == b"", "cut off, and without an answer"
        finally:
            over.set()


def test_streams_leave_connections_for_requests(counter: Counter) -> None:
    with answering(counter) as path:
        client = SiteServiceClient(path, "en")
        streams = [client.stream(0) for _ in range(MAX_STREAMS)]
        for stream in streams:
            assert next(stream).kind == "service"
        assert client.get("/v1/status")["site"] == "ke-1"
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connect_unix_socket(path, 30)
        connection.request("GET", "/v1/events")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        connection.close()
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]


def test_concurrent_writes_are_serialised(counter: Counter) -> None:
    counter.know(NEXT)
    codes: list[str] = []

    def order(client: SiteServiceClient) -> None:
        try:
            client.call("POST", "/v1/jobs", {"kind": "check"})
            codes.append("given")
        except UpdaterError as error:
            codes.append(error.code)

    with answering(counter) as path:
        people = [
            threading.Thread(target=order, args=(SiteServiceClient(path, "en"),)) for _ in range(8)
        ]
        for person in people:
            person.start()
        for person in people:
            person.join()
    assert sorted(codes) == ["NU-9318"] * 7 + ["given"]
    with Journal.open(counter.site.journal) as journal:  # its chain is checked
        assert [event.kind for event in journal.list_events()] == ["job-queued"]


def test_stopped_server_does_not_answer(counter: Counter) -> None:
    with answering(counter) as path:
        client = SiteServiceClient(path, "en")
        assert client.is_reachable()
    assert not client.is_reachable()
    with pytest.raises(ServiceUnresponsiveError):
        client.get("/v1/status")
    assert not path.exists()


def test_slow_senders_do_not_block_others(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.5)
    over, busy = threading.Event(), threading.Semaphore(0)
    answer = http_server.LimitedConnection.communicate

    def counted(connection: http_server.LimitedConnection) -> bool:
        busy.release()
        return answer(connection)

    monkeypatch.setattr(http_server.LimitedConnection, "communicate", counted)

    def drip(path: Path) -> None:
        with connect_unix_socket(path, 30) as connection, contextlib.suppress(OSError):
            connection.sendall(b"G")
            while not over.wait(0.05):
                connection.sendall(b"G")

    with answering(counter) as path:
        slow = [threading.Thread(target=drip, args=(path,)) for _ in range(server.THREADS + 2)]
        for thread in slow:
            thread.start()
        try:
            for _ in range(server.THREADS):
                assert busy.acquire(timeout=DEADLINE_S), "each thread has somebody to wait for"
            with contextlib.closing(connect_unix_socket(path, 30)) as connection:
                connection.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
                assert connection.recv(12).startswith(b"HTTP/1.")
        finally:
            over.set()
            for thread in slow:
                thread.join()


def test_stream_outlasts_the_request_timeout(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.2)
    monkeypatch.setattr(http_server, "RESPONSE_TIMEOUT_S", 0.0)
    with answering(counter) as path:
        cut = threading.Event()
        real = http_server.LimitedConnection._shut_down

        def noted(connection: http_server.LimitedConnection, how: int) -> None:
            real(connection, how)
            cut.set()

        monkeypatch.setattr(http_server.LimitedConnection, "_shut_down", noted)
        events = SiteServiceClient(path, "en").stream(None)
        assert next(events).kind == "service"
        assert cut.wait(DEADLINE_S)
        with Journal.open(counter.site.journal) as journal:
            journal.record_event("after-the-cut")
        assert next(event.kind for event in events if event.kind != "service") == "after-the-cut"


def test_command_with_another_configuration_is_not_answered(counter: Counter) -> None:
    other = counter.site.root / "other.toml"
    with answering(counter) as path:
        other.write_text(f'{counter.site.config.read_text()}[service]\napi_socket = "{path}"\n')
        found = counter.site.run("--config", str(other), "history", "--json")
        error = json.loads(found.stdout)["error"]
        assert (found.returncode, error["code"]) == (2, "NU-9338")
        assert str(counter.site.config) in error["title"]
        assert counter.site.run("--config", str(other), "--local", "history").returncode == 0
        counter.site.config.write_text(other.read_text())
        assert counter.site.run("history").returncode == 0
