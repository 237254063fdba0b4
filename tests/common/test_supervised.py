"""The supervisor: real processes, daemons among them, and an agent that is killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.common.supervised_process import AllowedLeftovers, SupervisedProcess
from tests.support.forks import DEADLINE_S

# Leaves the session, the group and its parent, tells its number through a pipe, and stays. What
# started it returns once that is done.
DAEMON = """
import os, sys, time
reading, writing = os.pipe()
if os.fork():
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
with open(sys.argv[1], "w") as told:
    told.write(str(os.getpid()))
os.close(writing)
time.sleep(600)
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    place = tmp_path / "told"
    os.mkfifo(place)
    return place


@pytest.fixture
def shell(tmp_path: Path, pipe: Path) -> Iterator[list[str]]:
    """A shell that makes a daemon; ``$1`` is what it does then."""
    program = tmp_path / "daemon.py"
    program.write_text(DAEMON)
    yield ["sh", "-c", f'{sys.executable} -I {program} {pipe}; eval "$1"', "sh"]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_for_death(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        ready, _, _ = select.select([handle], [], [], 30)
        os.close(handle)
        assert ready


def run(argv: list[str], left: AllowedLeftovers, timeout_s: float = 60) -> int | None:
    environment = {"PATH": os.environ["PATH"]}
    with (
        tempfile.TemporaryFile() as output,
        SupervisedProcess(argv, environment, allowed_leftovers=left, output=output) as command,
    ):
        return command.wait_for_exit(timeout_s)


def run_with_daemon(
    pipe: Path, argv: list[str], left: AllowedLeftovers, timeout_s: float = 60
) -> tuple[int, object]:
    """The daemon's number, and how the command ended."""
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    status = run(argv, left, timeout_s)
    return int(reader.communicate()[0]), status


@pytest.mark.parametrize(
    ("then", "left", "stays"),
    [
        ("exit 0", AllowedLeftovers.DAEMONS, True),
        ("exit 3", AllowedLeftovers.DAEMONS, False),
        ("exit 0", AllowedLeftovers.NOTHING, False),
        ("exit 3", AllowedLeftovers.ANYTHING, True),
    ],
)
def test_leftover_processes_of_a_command_are_handled(
    pipe: Path, shell: list[str], then: str, left: AllowedLeftovers, stays: bool
) -> None:
    pid, status = run_with_daemon(pipe, [*shell, then], left)
    assert status == int(then[-1])
    assert lives(pid) is stays
    if stays:
        # None of our processes is its parent any more, and it has a session of its own.
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        assert int(fields[1]) != os.getpid()
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("left", AllowedLeftovers)
def test_timed_out_command_is_killed_with_its_daemons(
    pipe: Path, shell: list[str], left: AllowedLeftovers
) -> None:
    pid, status = run_with_daemon(pipe, [*shell, "exec sleep 600"], left, 2)
    assert status is None
    assert not lives(pid)


@pytest.mark.parametrize("left", AllowedLeftovers)
def test_nothing_outlives_a_killed_agent(
    pipe: Path, shell: list[str], left: AllowedLeftovers
) -> None:
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, tempfile\n"
            "from ncen_updater.common import supervised_process as module\n"
            "AllowedLeftovers = module.AllowedLeftovers\n"
            "with tempfile.TemporaryFile() as output:\n"
            "    path = {'PATH': os.environ['PATH']}\n"
            "    left = AllowedLeftovers(sys.argv[1])\n"
            "    module.SupervisedProcess(sys.argv[2:], path, "
            "allowed_leftovers=left, output=output).wait_for_exit(600)\n",
            left,
            *shell,
            "exec sleep 600",
        ]
    )
    pid = int(reader.communicate(timeout=DEADLINE_S)[0])
    assert lives(pid)
    agent.kill()
    agent.wait()
    wait_for_death(pid)


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/passwd", "no-such-program"])
def test_unstartable_program_is_named(program: str) -> None:
    with pytest.raises(OSError, match=program):
        run([program], AllowedLeftovers.ANYTHING)


def test_signal_is_reported_as_such() -> None:
    assert run(["sh", "-c", "kill -9 $$"], AllowedLeftovers.ANYTHING) == -signal.SIGKILL


def test_killed_supervisor_counts_as_a_killed_command() -> None:
    argv = ["sh", "-c", "kill -9 $PPID; exec sleep 600"]
    assert run(argv, AllowedLeftovers.DAEMONS) == -signal.SIGKILL


def test_descriptor_is_kept_by_the_supervisor_only(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    argv = ["sh", "-c", f"test ! -e /proc/self/fd/{writing}"]
    with tempfile.TemporaryFile() as output:
        environment = {"PATH": os.environ["PATH"]}
        with SupervisedProcess(
            argv,
            environment,
            allowed_leftovers=AllowedLeftovers.ANYTHING,
            output=output,
            held_descriptor=writing,
        ) as command:
            os.close(writing)
            assert command.wait_for_exit(DEADLINE_S) == 0
    assert os.read(reading, 1) == b""
    os.close(reading)
