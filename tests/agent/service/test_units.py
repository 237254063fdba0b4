"""Work of the service in a unit of its own: real sockets, systemd's activator, real children."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.approvals.store import Person
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.journal.orders import Order, OrderKind
from ncen_updater.agent.policy.automation import Act, Deed
from ncen_updater.agent.service.applying import COMMANDS, LOOKS, apply, words_of_line
from ncen_updater.agent.service.board import Board
from ncen_updater.agent.service.children import Finished
from ncen_updater.agent.service.loop import words_of, words_of_order
from ncen_updater.agent.service.units import AWAY, UnitRunner
from ncen_updater.common.i18n import Text
from tests.support.activation import ACTIVATOR, activated

NOW = datetime(2026, 11, 24, tzinfo=UTC)
needs_activator = pytest.mark.skipif(
    ACTIVATOR is None, reason="systemd-socket-activate is not installed"
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"words": ["check"]}, ("check",)),
        ({"words": ["upgrade", "3.3.0", "--yes"]}, ("upgrade", "3.3.0", "--yes")),
        ({"words": ["assess"]}, ("assess",)),
        ({"words": ["assess", "more"]}, None),
        ({"words": ["adopt", "3.2.4"]}, None),
        ({"words": ["serve"]}, None),
        ({"words": ["unhold"]}, None),
        ({"words": ["--config", "/tmp/mine", "upgrade"]}, None),
        ({"words": ["upgrade", "a\0b"]}, None),
        ({"words": []}, None),
        ({"words": "check"}, None),
        ({"words": ["check", 1]}, None),
        ({}, None),
        ([], None),
    ],
)
def test_words_of_line(line: object, words: tuple[str, ...] | None) -> None:
    assert words_of_line(json.dumps(line).encode()) == words


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"[" * 50_000])
def test_no_order_at_all(line: bytes) -> None:
    assert words_of_line(line) is None


def test_everything_that_the_service_asks_for_is_known() -> None:
    asked = set()
    for deed in Deed:
        with contextlib.suppress(ValueError):  # a deed that runs nothing
            asked.add(words_of(Act(deed, Text("because")), None)[0])
    asked |= {
        words_of_order(Order(1, kind, {}, Person("amina", 1000), NOW))[0] for kind in OrderKind
    }
    assert asked == COMMANDS
    assert not COMMANDS & LOOKS


def test_what_is_no_order_starts_nothing(tmp_path: Path) -> None:
    results = io.BytesIO()
    assert apply(tmp_path / "agent.toml", io.BytesIO(b'{"words": ["adopt"]}\n'), results) == 2
    assert results.getvalue() == b""


@contextlib.contextmanager
def unit(directory: Path, *words: str) -> Iterator[Path]:
    path = directory / "apply.sock"
    ours = (
        sys.executable,
        "-m",
        "ncen_updater.agent.service.applying",
        str(directory / "agent.toml"),
    )
    with activated(path, words or ours, directory / "unit.log"):
        yield path


def runner(path: Path, asked: Callable[[], bool] = lambda: False) -> UnitRunner:
    return UnitRunner(path, lambda: None, asked, Board(ServiceSettings(), lambda: NOW))


@needs_activator
def test_a_command_with_its_result(tmp_path: Path) -> None:
    with unit(tmp_path) as path:
        finished = runner(path).run(["check"])
    assert finished.exit_code == 1
    assert finished.error_code == "NU-1002"  # there is no configuration


@needs_activator
def test_looks(tmp_path: Path) -> None:
    with unit(tmp_path) as path:
        assert runner(path).assess().exit_code != 0
        assert not runner(path).in_reach()


def test_nobody_waits(tmp_path: Path) -> None:
    assert runner(tmp_path / "apply.sock").run(["check"]) == Finished(AWAY, {})


@needs_activator
@pytest.mark.parametrize(
    "words",
    [
        ("true",),
        ("sh", "-c", "echo nonsense"),
        ("sh", "-c", "kill -9 $$"),
        ("sh", "-c", 'echo "{\\"exit_code\\": true, \\"document\\": {}}"'),
    ],
)
def test_a_unit_without_a_result(tmp_path: Path, words: tuple[str, ...]) -> None:
    with unit(tmp_path, *words) as path:
        assert runner(path).run(["check"]) == Finished(AWAY, {})


@needs_activator
def test_the_request_to_end_arrives(tmp_path: Path) -> None:
    answer = """read order; read word; printf '{"exit_code": 11, "document": {"w": "%s"}}' $word"""
    with unit(tmp_path, "sh", "-c", answer) as path:
        finished = runner(path, lambda: True).run(["upgrade"])
    assert finished == Finished(11, {"w": "stop"})


def test_ends_well_while_the_service_still_listens(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [
            sys.executable,
            "-m",
            "ncen_updater.agent.service.applying",
            str(tmp_path / "agent.toml"),
        ]
        with subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
            ours.sendall(b'{"words": ["assess"]}\n')
            assert b"exit_code" in ours.recv(10_000)
            assert process.wait(20) == 0


class _Runner:
    """Stands in for the children: waits until it is asked to end."""

    def __init__(self, asked: Callable[[], bool], begun: threading.Event) -> None:
        self._asked, self._begun = asked, begun

    def run(self, words: tuple[str, ...]) -> Finished:
        self._begun.set()
        while not self._asked():
            os.sched_yield()
        return Finished(11, {"words": list(words)})


def test_a_second_line_asks_the_work_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    monkeypatch.setattr(
        "ncen_updater.agent.service.applying.ProcessRunner",
        lambda _config, _alive, asked, _watcher: _Runner(asked, begun),
    )
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as orders, ours.makefile("wb") as results:
        work = threading.Thread(target=apply, args=(tmp_path, orders, results))
        work.start()
        theirs.sendall(b'{"words": ["upgrade"]}\n')
        assert begun.wait(20)
        theirs.sendall(b"stop\n")
        work.join(20)
        answer = json.loads(theirs.recv(10_000))
    assert answer == {"exit_code": 11, "document": {"words": ["upgrade"]}}
