"""Work of the service in a unit of its own: real sockets, systemd's activator, real children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.cli import worker as applying
from ncen_updater.agent.cli.worker import ALLOWED_COMMANDS, ALLOWED_OPTIONS, PROBES
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.policy.automation import ServiceAction, ServiceDecision
from ncen_updater.agent.service.apply_runner import EXIT_CANNOT_RUN, ApplyRunner, WorkerResult
from ncen_updater.agent.service.errors import BadRequestError
from ncen_updater.agent.service.loop import build_command, build_job_command
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.jobs import Job, JobKind
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.workers import Worker
from tests.support.activation import ACTIVATOR, activated
from tests.support.forks import DEADLINE_S

MODULE = "ncen_updater.agent.cli.worker"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
needs_activator = pytest.mark.skipif(
    ACTIVATOR is None, reason="systemd-socket-activate is not installed"
)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"command": ["check"]}, ("check",)),
        ({"command": ["upgrade", "3.3.0", "--yes"]}, ("upgrade", "3.3.0", "--yes")),
        ({"command": ["assess"]}, ("assess",)),
        ({"command": ["assess", "more"]}, None),
        ({"command": ["adopt", "3.2.4"]}, None),
        ({"command": ["serve"]}, None),
        (
            {"command": ["import", "--job", "7", "--dry-run"]},
            ("import", "--job", "7", "--dry-run"),
        ),
        ({"command": ["import", "--from", "/etc"]}, None),
        ({"command": ["unhold"]}, None),
        ({"command": ["--config", "/tmp/mine", "upgrade"]}, None),
        ({"command": ["upgrade", "--config", "/tmp/mine"]}, None),
        ({"command": ["upgrade", "--config=/tmp/mine", "--yes"]}, None),
        ({"command": ["upgrade", "--yes", "--", "3.3.0"]}, None),
        ({"command": ["self-update", "--from", "/tmp/mine"]}, None),
        ({"command": ["upgrade", "a\0b"]}, None),
        ({"command": []}, None),
        ({"command": "check"}, None),
        ({"command": ["check", 1]}, None),
        ({}, None),
    ],
)
def test_worker_commands_are_parsed(
    order: dict[str, object], words: tuple[str, ...] | None
) -> None:
    if words is None:
        with pytest.raises(BadRequestError):
            applying.parse_command(order)
    else:
        assert applying.parse_command(order) == words


def test_commands_of_the_service_are_allowed() -> None:
    asked = set()
    for action in ServiceAction:
        with contextlib.suppress(KeyError):  # an action that runs nothing
            asked.add(build_command(ServiceDecision(action, LazyText("because")), None)[0])
    asked |= {build_job_command(Job(1, kind, {}, Actor("amina", 1000), NOW))[0] for kind in JobKind}
    assert asked == ALLOWED_COMMANDS
    assert not ALLOWED_COMMANDS & PROBES


def test_options_of_the_service_are_allowed() -> None:
    again, data = NOW, {
        "version": "3.3.0", "retry": True, "language": "fr", "accept_loss": 3,
        "undoes": "aaaaaaaa", "dry_run": True,
    }  # fmt: skip
    found = Assessment(last_event=1, target="3.3.0", retry_at=again)
    lines = [build_job_command(Job(1, kind, data, Actor("amina", 1000), NOW)) for kind in JobKind]
    for action in ServiceAction:
        with contextlib.suppress(KeyError):  # an action that runs nothing
            lines.append(build_command(ServiceDecision(action, LazyText("because"), NOW), found))
    assert [applying.parse_command({"command": list(line)}) for line in lines] == lines
    assert {word for line in lines for word in line if word.startswith("-")} == ALLOWED_OPTIONS


@contextlib.contextmanager
def unit(directory: Path, *words: str) -> Iterator[Path]:
    path = directory / "apply.sock"
    ours = (sys.executable, "-I", "-m", MODULE, str(directory / "agent.toml"))
    with activated(path, words or ours, directory / "unit.log"):
        yield path


def runner(path: Path | None, asked: Callable[[], bool] = lambda: False) -> ApplyRunner:
    config = (path.parent if path else Path("/nowhere")) / "agent.toml"
    return ApplyRunner(
        config, path, lambda: None, asked, SnapshotStore(ServiceSettings(), lambda: NOW)
    )


@needs_activator
def test_unit_runs_a_command_and_returns_its_result(tmp_path: Path) -> None:
    with unit(tmp_path) as path:
        finished = runner(path).run(["check"])
    assert finished.exit_code == 1
    assert finished.error_code == "NU-1011"  # there is no configuration


@needs_activator
def test_unit_probes_reachability(tmp_path: Path) -> None:
    with unit(tmp_path) as path:
        assert runner(path).assess().exit_code != 0
        assert not runner(path).check_reachability()


@needs_activator
def test_agent_update_uses_its_own_unit(tmp_path: Path) -> None:
    with unit(tmp_path) as path:
        away = ApplyRunner(
            tmp_path / "agent.toml", tmp_path / "none", lambda: None, lambda: False,
            SnapshotStore(ServiceSettings(), lambda: NOW), path,
        )  # fmt: skip
        assert away.run(["self-update"]).error_code == "NU-1011"
        assert away.run(["check"]) == WorkerResult(EXIT_CANNOT_RUN, {})


def test_missing_unit_is_reported(tmp_path: Path) -> None:
    assert runner(tmp_path / "apply.sock").run(["check"]) == WorkerResult(EXIT_CANNOT_RUN, {})


@needs_activator
@pytest.mark.parametrize(
    "words",
    [
        ("true",),
        ("sh", "-c", "echo nonsense"),
        ("sh", "-c", "kill -9 $$"),
        ("sh", "-c", """echo '{"done": true, "exit_code": true, "document": {}}'"""),
        ("sh", "-c", """echo '{"exit_code": 0, "document": {}}'"""),
    ],
)
def test_unit_without_a_result_is_reported(tmp_path: Path, words: tuple[str, ...]) -> None:
    with unit(tmp_path, *words) as path:
        assert runner(path).run(["check"]) == WorkerResult(EXIT_CANNOT_RUN, {})


@needs_activator
def test_termination_request_reaches_the_unit(tmp_path: Path) -> None:
    answer = """read order; read line
    printf '{"done": true, "exit_code": 11, "document": %s}' "$line" """
    with unit(tmp_path, "sh", "-c", answer) as path:
        finished = runner(path, lambda: True).run(["upgrade"])
    assert finished == WorkerResult(11, {"act": "end"})


def test_child_runs_a_command_and_returns_its_result() -> None:
    finished = runner(None).run(["check"])
    assert (finished.exit_code, finished.error_code) == (1, "NU-1011")
    assert not runner(None).check_reachability()


def test_killed_child_and_invalid_request_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner(None).run(["adopt"]) == WorkerResult(EXIT_CANNOT_RUN, {})
    code = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(Worker, "build_command", lambda _self: [sys.executable, "-Sc", code])
    assert runner(None).run(["check"]) == WorkerResult(137, {})


WAITING = """
import signal, sys
from ncen_updater.agent.cli import worker as applying
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import CALLER_PROGRESS

def command(words, config):
    CALLER_PROGRESS[0].report(LazyText("at work"))
    return {"exit_code": 11, "document": {"signal": signal.sigwait({signal.SIGTERM})}}

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
applying._run_command = command
sys.exit(applying.main())
"""


def test_second_line_requests_termination() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as answers, subprocess.Popen(
        [sys.executable, "-c", WAITING, "agent.toml"],
        stdin=theirs.fileno(), stdout=theirs.fileno(),
    ) as process:  # fmt: skip
        theirs.close()  # else its end would not be seen here
        ours.sendall(b'{"command": ["upgrade"]}\n')
        assert json.loads(answers.readline())["template"] == "at work"
        ours.sendall(b"stop\n")
        answer = json.loads(answers.readline())
        assert process.wait(DEADLINE_S) == 0
    assert answer == {"done": True, "exit_code": 11, "document": {"signal": signal.SIGTERM}}


def test_operation_continues_after_the_service_died(tmp_path: Path) -> None:
    """And completes, without a caller to report to."""
    ours, theirs = socket.socketpair()
    with theirs:
        code = WAITING.replace("import signal", "import signal, sys; signal.alarm(20); import os")
        done = f"open({str(tmp_path / 'done')!r}, 'w').close()"
        code = code.replace("    return {", f"    os.read(3, 1); {done}; return {{").replace(
            "signal.sigwait({signal.SIGTERM})", "0"
        )
        hold, let = os.pipe()
        with ours, subprocess.Popen(
            ["bash", "-c", f'exec 3<&{hold}; exec "$@"', "_", sys.executable, "-c", code, "a.toml"],
            stdin=theirs.fileno(), stdout=theirs.fileno(), pass_fds=(hold,),
        ) as process:  # fmt: skip
            theirs.close()
            ours.sendall(b'{"command": ["upgrade"]}\n')
            with ours.makefile("rb") as answers:
                answers.readline()
            ours.close()
            os.write(let, b"x")
            assert process.wait(DEADLINE_S) == 0
        os.close(hold)
        os.close(let)
    assert (tmp_path / "done").exists()


LOOKING = """
import signal, sys
from ncen_updater.agent.cli import worker as applying
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import CALLER_PROGRESS

def look(word, config):
    CALLER_PROGRESS[0].report(LazyText("at work"))
    signal.pause()

signal.alarm(20)
applying._run_probe = look
sys.exit(applying.main())
"""


@pytest.mark.parametrize(
    ("word", "ends"), [("availability", True), ("in-reach", True), ("assess", False)]
)
def test_probe_ends_with_its_caller(word: str, ends: bool) -> None:
    """It would keep a place at the socket; but what leaves something behind comes to its end."""
    assert applying.is_bound_to_requester({"command": [word]}) is ends
    if not ends:
        return
    ours, theirs = socket.socketpair()
    with theirs, subprocess.Popen(
        [sys.executable, "-c", LOOKING, "agent.toml"],
        stdin=theirs.fileno(), stdout=theirs.fileno(),
    ) as process:  # fmt: skip
        theirs.close()
        with ours, ours.makefile("rb") as answers:
            ours.sendall(json.dumps({"command": [word]}).encode() + b"\n")
            answers.readline()
        assert process.wait(DEADLINE_S) == -signal.SIGTERM
