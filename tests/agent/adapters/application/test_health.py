from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_result import (
    HealthExpectation,
    HealthResult,
    ProbeResult,
)
from ncen_updater.agent.adapters.application.health_watch import (
    SoakState,
    SoakVerdict,
    count_check,
    judge_soak,
    run_soak,
    wait_until_healthy,
)
from ncen_updater.agent.config.agent_config import ApplicationSettings
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import HEALTH_SETTINGS_WRONG
from ncen_updater.formats.manifest import HealthProbe
from tests.support.errors import refused

Reply = tuple[int, bytes]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, Reply] = {}
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        status, body = self.server.replies.get(self.path, (404, b""))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/other")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def settings(url: str, **changes: object) -> ApplicationSettings:
    return ApplicationSettings.model_validate(
        {"unit": "x", "health_url": url, "maintenance_file": Path("/x"), **changes}
    )


def ask(url: str, *probes: HealthProbe, **changes: object) -> HealthResult:
    return HealthProber(settings(url, **changes)).check_health(HealthExpectation("3.3.0", probes))


def reply(value: object, status: int = 200) -> Reply:
    return status, json.dumps(value).encode()


def test_healthy_application_passes(server: Server) -> None:
    server.replies["/healthz"] = reply({"version": "3.3.0", "schema": "3.3.0", "writable": True})
    health = ask(server.url, schema_field="schema", write_probe_field="writable")
    assert health
    assert health.problems == ()
    assert health.reported["version"] == "3.3.0"
    assert "no-store" in server.seen[0]["Cache-Control"]


def test_version_field_is_configurable(server: Server) -> None:
    server.replies["/healthz"] = reply({"version": "v3.3", "schema": "3.3.0.0"})
    assert ask(server.url, schema_field="schema")


@pytest.mark.parametrize(
    ("body", "pattern", "problem"),
    [
        (b"3.3.0\n", r"(\S+)", None),
        (b'"3.3.0"', r'"([0-9.]+)"', None),
        (b"<footer>Release v3.3.0, (c) 2026</footer>", r"Release (\S+?),", None),
        (b"3.2.4\n", r"(\S+)", '\'version\' is "3.2.4", expected "3.3.0"'),
        (b"", r"(\S+)", "no version in the response"),
        (b"<html>", r"Release (\S+)", "no version in the response"),
        (b"   ", r"( *)", "no version in the response"),
        (b"\xff\x00", r"(\d+)", "no version in the response"),
        (b"-" * 70_000 + b"3.3.0", r"(\d\S+)", "no version in the response"),
    ],
)
def test_plain_text_answer_is_matched_by_a_pattern(
    server: Server, body: bytes, pattern: str, problem: str | None
) -> None:
    """Seen: an application that tells its version as text needed a program to say it as JSON."""
    server.replies["/healthz"] = (200, body)
    health = ask(server.url, version_pattern=pattern)
    assert (health.problem and str(health.problem)) == problem
    if problem is None:
        assert health.reported["version"] in ("3.3.0", "v3.3.0")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version_pattern": "("}, "not a regular expression"),
        ({"version_pattern": r"\S+"}, "requires exactly one group"),
        ({"version_pattern": r"(\d)(\d)"}, "requires exactly one group"),
        (
            {"version_pattern": r"(\S+)", "schema_field": "schema"},
            "cannot be combined with version_pattern",
        ),
        ({"version_pattern": "(" + "x" * 200 + ")"}, "200 characters"),
    ],
)
def test_pattern_that_cannot_match_a_version_is_rejected(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        settings("http://127.0.0.1:1", **changes)


#: More than any application answers.
LARGE = b"x" * 1_000_000
UNHEALTHY: dict[str, tuple[Reply, str]] = {
    "old version": (reply({"version": "3.2.4"}), '\'version\' is "3.2.4", expected "3.3.0"'),
    "no version": (reply({}), "'version' missing"),
    "another build": (reply({"version": "3.3.0+1"}), "'version' is \"3.3.0+1\""),
    "number": (reply({"version": 3.3}), "'version' is 3.3"),
    "not an object": (reply(["3.3.0"]), "not a JSON object"),
    "not JSON": ((200, b"<html>"), "not JSON"),
    "not text": ((200, b'\xff{"version": "3.3.0"}'), "not JSON"),
    "deep": ((200, b"[" * 500_000), "not JSON"),
    "empty": ((200, b""), "not JSON"),
    "failing": (reply({"version": "3.3.0"}, 503), "status 503"),
    "not there": ((404, b""), "status 404"),
    "redirect": ((302, b""), "status 302"),
    "too much": ((200, b'{"version": "3.3.0", "x": "' + LARGE + b'"}'), "larger than 1.0 MB"),
    "half a character": ((200, b'{"version": "\\ud800"}'), "'version' is"),
}


@pytest.mark.parametrize("name", UNHEALTHY)
def test_unhealthy_application_is_reported_without_raising(server: Server, name: str) -> None:
    server.replies["/healthz"], words = UNHEALTHY[name]
    health = ask(server.url)
    assert not health
    assert words in str(health.problems[0])
    str(health.problems[0]).encode()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schema": "3.2.4", "writable": True}, "'schema' is"),
        ({"schema": "3.3.0", "writable": False}, "'writable' is false"),
        ({"schema": "3.3.0", "writable": 1}, "'writable' is 1, expected true"),
        ({"schema": "3.3.0"}, "'writable' missing"),
        ({"writable": True}, "'schema' missing"),
    ],
)
def test_schema_and_write_probe_are_checked_where_configured(
    server: Server, fields: dict[str, object], words: str
) -> None:
    server.replies["/healthz"] = reply({"version": "3.3.0", **fields})
    health = ask(server.url, schema_field="schema", write_probe_field="writable")
    assert words in str(health.problem)
    assert ask(server.url)


def test_manifest_probes_are_checked(server: Server) -> None:
    server.replies["/healthz"] = reply({"version": "3.3.0"})
    server.replies["/search?q=1"] = reply({"hits": 1, "exact": True}, 201)
    good = HealthProbe(name="search", path="/search?q=1", status=201, expect={"hits": 1})
    assert ask(server.url, good)
    bad = HealthProbe(name="exact", path="/search?q=1", status=201, expect={"exact": 1})
    gone = HealthProbe(name="gone", path="/gone")
    health = ask(server.url, good, bad, gone)
    assert [bool(r.problem) for r in health.results] == [False, False, True, True]
    assert str(health.problems[0]).startswith("'exact': ")
    assert "status 404, expected 200" in str(health.problems[1])
    assert "statut HTTP 404, attendu 200" in health.problems[1].render("fr")


def test_base_address_may_have_a_path(server: Server) -> None:
    server.replies["/app/healthz"] = reply({"version": "3.3.0"})
    assert ask(f"{server.url}/app/")


def test_environment_proxy_is_ignored(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.replies["/healthz"] = reply({"version": "3.3.0"})
    assert ask(server.url)


def test_refused_connection_is_reported() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        health = ask(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert "no response" in str(health.problems[0])


def _silent(connection: socket.socket, late: threading.Event) -> None:
    late.wait()


def _drip(start: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def drip(connection: socket.socket, late: threading.Event) -> None:
        connection.sendall(start)
        while not late.wait(0.02):
            connection.sendall(b"x")

    return drip


def _hang_up(connection: socket.socket, late: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


def _nonsense(connection: socket.socket, late: threading.Event) -> None:
    connection.sendall(b"\x00\x01\x02 nothing\r\n\r\n")


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (_silent, "within 0.3 seconds"),
        (_drip(b"HTTP/1.1 200 OK\r\nX: "), "within 0.3 seconds"),
        (_drip(b"HTTP/1.1 200 OK\r\n\r\n"), "within 0.3 seconds"),
        (_hang_up, ""),
        (_nonsense, "no response"),
    ],
    ids=["silent", "sends headers slowly", "sends the body slowly", "hangs up", "nonsense"],
)
def test_misbehaving_server_is_abandoned(
    behave: Callable[[socket.socket, threading.Event], None], words: str
) -> None:
    late = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                # The other side gives up, as it should.
                with contextlib.suppress(OSError):
                    behave(connection, late)

        thread = threading.Thread(target=serve)
        thread.start()
        health = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", probe_timeout_s=0.3)
        late.set()
        thread.join()
    assert not health
    assert words in str(health.problems[0])


@pytest.mark.parametrize(
    "url",
    ["http://h:99999", "http://h:x", "http:///x", "http://[::1", "http://u:p@h", "http://h?x=1"],
)
def test_invalid_address_is_an_error(url: str) -> None:
    with refused(HEALTH_SETTINGS_WRONG):
        HealthProber(settings(url))


GOOD = HealthResult((ProbeResult("health"),))
BAD = HealthResult((ProbeResult("health", LazyText("down")),))


class Time:
    """A clock that advances only during waits and checks."""

    def __init__(self, looks: str, look_s: float = 0.0) -> None:
        self.now = 100.0
        self._looks = iter(looks)
        self.made = 0
        self._look_s = look_s
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def look(self) -> HealthResult:
        self.now += self._look_s
        self.made += 1
        return GOOD if next(self._looks) == "+" else BAD


@pytest.mark.parametrize(
    ("looks", "timeout", "healthy", "number", "seconds"),
    [
        ("++", 10, True, 2, 1),
        ("--++", 10, True, 4, 3),
        ("-+-+-++", 10, True, 7, 6),
        ("+-+-+-+-", 5, False, 6, 5),
        ("----", 3, False, 4, 3),
        ("-", 0, False, 1, 0),
        ("+", 0.5, False, 1, 0),
    ],
)
def test_waiting_until_healthy(
    looks: str, timeout: float, healthy: bool, number: int, seconds: float
) -> None:
    time = Time(looks)
    waited = wait_until_healthy(
        time.look, timeout_s=timeout, clock=time.clock, wait=time.wait, interval_s=1, first_s=1
    )
    assert (bool(waited), time.made, waited.seconds) == (healthy, number, seconds)
    assert bool(waited.health) is (looks[number - 1] == "+")


def test_slow_checks_count_into_the_waiting_time() -> None:
    time = Time("----", look_s=4)
    waited = wait_until_healthy(time.look, timeout_s=8.2, clock=time.clock, wait=time.wait)
    assert (time.made, round(waited.seconds, 3)) == (2, 8.4)


def test_first_checks_follow_each_other_closely() -> None:
    time = Time("-----++")
    wait_until_healthy(time.look, timeout_s=60, clock=time.clock, wait=time.wait)
    assert time.waits == [0.02] * 6


def test_no_interval_adds_more_than_a_tenth_to_a_start() -> None:
    time = Time("-" * 80 + "++")
    wait_until_healthy(time.look, timeout_s=60, clock=time.clock, wait=time.wait)
    so_far = 0.0
    for pause in time.waits[:-1]:
        assert pause <= max(0.02, min(so_far * 0.1 + 1e-9, 0.5))
        so_far += pause
    assert so_far > 10


@pytest.mark.parametrize(
    ("state", "elapsed", "verdict"),
    [
        (SoakState(), 0, SoakVerdict.CONTINUE),
        (SoakState(), 59.9, SoakVerdict.CONTINUE),
        (SoakState(), 60, SoakVerdict.PASSED),
        (SoakState(9, 2, 2), 10, SoakVerdict.CONTINUE),
        (SoakState(9, 3, 3), 10, SoakVerdict.FAILED),
        (SoakState(9, 3, 3), 60, SoakVerdict.FAILED),
        (SoakState(9, 2, 2), 60, SoakVerdict.CONTINUE),
        (SoakState(9, 5, 0), 60, SoakVerdict.PASSED),
        (SoakState(9, 5, inconclusive=True), 60, SoakVerdict.CONTINUE),
    ],
)
def test_soak_is_judged(state: SoakState, elapsed: float, verdict: SoakVerdict) -> None:
    assert judge_soak(state, elapsed_s=elapsed, seconds=60, max_failures=3) is verdict


def test_soak_checks_are_counted() -> None:
    state = SoakState()
    for healthy in (True, False, False, True, False):
        state = count_check(state, healthy=healthy)
    assert state == SoakState(checks=5, failures=3, consecutive_failures=1)
    state = count_check(state, healthy=False, unknown=True)
    assert state == SoakState(checks=5, failures=3, inconclusive=True)
    assert count_check(state, healthy=False) == SoakState(
        checks=6, failures=4, consecutive_failures=1
    )


def test_inconclusive_checks_do_not_advance_the_soak() -> None:
    """Bad, twice without databases, bad, well: none of it is a row, and the time is seen whole."""
    time, looks = Time(""), iter("-??-++++")
    said: list[str] = []

    def look() -> HealthResult:
        said.append(next(looks))
        return GOOD if said[-1] == "+" else BAD

    result = run_soak(
        look, seconds=30, interval_s=10, max_failures=2, clock=time.clock, wait=time.wait,
        is_inconclusive=lambda: said[-1] == "?",
    )  # fmt: skip
    assert result.verdict is SoakVerdict.PASSED
    assert (result.state.checks, result.state.failures) == (3, 2)
    assert sum(time.waits) == 50


@pytest.mark.parametrize(
    ("looks", "seconds", "elapsed", "verdict", "number", "end"),
    [
        ("+++++", 30, 0, SoakVerdict.PASSED, 3, 30),
        ("+---", 30, 0, SoakVerdict.FAILED, 4, 30),
        ("+--+", 30, 0, SoakVerdict.PASSED, 4, 40),
        ("---", 3600, 0, SoakVerdict.FAILED, 3, 20),
        ("+", 25, 20, SoakVerdict.PASSED, 1, 25),
        ("", 25, 30, SoakVerdict.PASSED, 0, 30),
        ("", 0, 0, SoakVerdict.PASSED, 0, 0),
    ],
)
def test_soak_ends_with_its_verdict(
    looks: str, seconds: float, elapsed: float, verdict: SoakVerdict, number: int, end: float
) -> None:
    time = Time(looks)
    result = run_soak(
        time.look,
        seconds=seconds,
        interval_s=10,
        max_failures=3,
        clock=time.clock,
        wait=time.wait,
        elapsed_s=elapsed,
    )
    assert (result.verdict, result.state.checks, time.now) == (verdict, number, 100 + end - elapsed)
    assert bool(result) is (verdict is SoakVerdict.PASSED)


@pytest.mark.parametrize(("looks", "number"), [("+-", 2), ("--", 2), ("", 0)])
def test_operator_ends_the_soak(looks: str, number: int) -> None:
    time = Time(looks)
    answers = iter([False] * number + [True])
    result = run_soak(
        time.look,
        seconds=3600,
        interval_s=10,
        max_failures=3,
        clock=time.clock,
        wait=time.wait,
        is_confirmed=lambda: next(answers),
    )
    assert (result.verdict, result.state.checks) == (SoakVerdict.PASSED, number)
