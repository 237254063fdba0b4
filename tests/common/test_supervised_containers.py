"""The supervisor and real containers: nothing in one outlives its command, however that ends.

``podman run`` leaves ``conmon`` behind it, in a session of its own, which is the parent of the
container's first process; that has a tree of processes of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.common.supervised_process import AllowedLeftovers, SupervisedProcess
from tests.support.podman import environment_in, forget, podman_settings, rootfs, stored
from tests.support.processes import with_variable

#: Its first process heeds no signal, and another one has left its session.
WORK = "setsid sleep 600 & trap '' TERM INT HUP; sleep 600 & wait"
AGENT = """
import os, signal, sys, tempfile
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began the tests may ignore it
from ncen_updater.common.supervised_process import AllowedLeftovers, SupervisedProcess
left, who, *argv = sys.argv[1:]
become = (int(who), int(who)) if who else None
with tempfile.TemporaryFile() as output:
    with SupervisedProcess(
        argv, dict(os.environ), allowed_leftovers=AllowedLeftovers(left), output=output,
        run_as=become
    ) as command:
        command.wait_for_exit(600)
"""
NOBODY = 65534
LIMIT_S = 60


@dataclass(frozen=True)
class Machine:
    """Where the containers of one trial are.

    Attributes:
        place: Of all that podman keeps.
        environment: All variables; one is inherited by everything of the trial.
        become: Whose the containers are.
    """

    place: Path
    environment: dict[str, str]
    become: tuple[int, int] | None

    def words(self, *options: str) -> list[str]:
        """A container with processes that never exit."""
        return [*stored(self.place), "run", "--rm", "--network=host", "--read-only", *options,
                "--env=NCEN_TRIAL", "--rootfs", str(self.place / "rootfs"),
                "/bin/sh", "-c", WORK]  # fmt: skip

    def supervised(self, argv: list[str], left: AllowedLeftovers) -> SupervisedProcess:
        """What the agent makes of a command."""
        return SupervisedProcess(
            argv,
            self.environment,
            allowed_leftovers=left,
            output=subprocess.DEVNULL,
            run_as=self.become,
        )

    def processes(self) -> dict[int, list[str]]:
        """Numbers and words of whatever inherited the variable."""
        return dict(with_variable(f"NCEN_TRIAL={self.place}"))

    def alive(self) -> list[str]:
        """Their programs."""
        return [Path(words[0]).name for words in self.processes().values()]

    def ended(self) -> bool:
        """Kill whatever is left; whether nothing was."""
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def inside(self) -> bool:
        """Whether both lasting processes of the container are at work."""
        return self.alive().count("sleep") == 2


@pytest.fixture(params=[False, True], ids=["of who runs it", "of the application's user"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Root gives a migrator the application's user; others run it themselves."""
    become = (NOBODY, NOBODY) if request.param else None
    if become and os.geteuid() != 0:
        pytest.skip("only root becomes somebody else")
    settings = podman_settings()
    with tempfile.TemporaryDirectory(prefix="nu-test-") as directory:  # where others may come in
        place = Path(directory)
        rootfs(place, "sh", "sleep", "setsid")
        mark = {"NCEN_TRIAL": directory}
        environment = environment_in(place, settings) | mark
        if become:
            os.chown(place, *become)
        made = Machine(place, environment, become)
        try:
            yield made
        finally:
            until(made.ended)
            forget(place)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks


@pytest.mark.parametrize(
    ("how", "left"),
    [(signal.SIGKILL, left) for left in AllowedLeftovers]
    + [(signal.SIGINT, AllowedLeftovers.NOTHING)],
)
def test_no_container_outlives_its_agent(
    machine: Machine, how: signal.Signals, left: AllowedLeftovers
) -> None:
    """Killed, or by Ctrl-C."""
    who = str(machine.become[0]) if machine.become else ""
    words = [sys.executable, "-c", AGENT, left, who, *machine.words()]
    with subprocess.Popen(words, env=machine.environment, stderr=subprocess.DEVNULL) as agent:
        try:
            until(machine.inside)
            agent.send_signal(how)
            agent.wait(LIMIT_S)
        finally:
            agent.kill()
    until(lambda: not machine.alive())


def test_timed_out_container_is_gone_when_the_agent_continues(machine: Machine) -> None:
    with machine.supervised(machine.words(), AllowedLeftovers.NOTHING) as command:
        until(machine.inside)
        assert command.wait_for_exit(0) is None
    assert machine.alive() == []


def test_migrator_with_a_killed_podman_leaves_nothing(machine: Machine) -> None:
    """The agent learns of the end once the remaining processes have ended."""
    with machine.supervised(machine.words(), AllowedLeftovers.NOTHING) as command:
        until(machine.inside)
        for pid, words in sorted(machine.processes().items()):
            if words[0].endswith("/podman") and "--rootfs" in words:  # two, of an ordinary user
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert command.wait_for_exit(LIMIT_S) not in (None, 0)
        assert machine.alive() == []


@pytest.mark.parametrize("status", [0, 3])
def test_container_of_a_successful_start_keeps_running(machine: Machine, status: int) -> None:
    argv = [
        "/bin/sh",
        "-c",
        f'"$@" && exit {status}',
        "sh",
        *machine.words("--detach", "--name=it"),
    ]
    with machine.supervised(argv, AllowedLeftovers.DAEMONS) as command:
        assert command.wait_for_exit(LIMIT_S) == status
    if status == 0:
        until(machine.inside)
        gone = [*stored(machine.place), "rm", "--force", "--time=0", "it"]
        with machine.supervised(gone, AllowedLeftovers.NOTHING) as command:
            assert command.wait_for_exit(LIMIT_S) == 0
    until(lambda: set(machine.alive()) <= {"podman"})  # its pause
    assert machine.alive() == [] or status == 0
