"""The application's own migrator: real programs, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.databases.migrations.command import (
    KEPT_OUTPUT_BYTES,
    migrator_environment,
    run_command,
)
from ncen_updater.common.messages import MIGRATOR_FAILED, MIGRATOR_MISSING
from ncen_updater.common.progress import Silent
from ncen_updater.formats.manifest import MigratorCommand
from tests.agent.databases.migrations.making import Told
from tests.support.errors import refused

ENVIRONMENT = {"PATH": os.defpath, "NCEN_DB_CASES_URL": "sqlite:///somewhere"}
DATABASES = ("cases", "people")

# A migrator with a child of its own; it tells both numbers through a pipe by name and stays.
STAYS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "w") as told:
    told.write(f"{os.getpid()} {child.pid}")
print("said before the end", flush=True)
time.sleep(600)
"""


def script(slot: Path, text: str) -> str:
    (slot / "migrate.py").write_text(text)
    return "{slot}/migrate.py"


def command(*argv: str, timeout_s: int = 60) -> MigratorCommand:
    return MigratorCommand(argv=argv, timeout_s=timeout_s)


def wait_for_death(pid: int) -> None:
    """Return when a process is gone; one that is not our child may stay a zombie for a moment."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state in "ZX":
            return


def listen(slot: Path) -> tuple[Path, list[int], threading.Thread]:
    """A pipe by name, and a thread that reads the process numbers from it."""
    pipe = slot / "told"
    os.mkfifo(pipe)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(map(int, pipe.read_text().split())))
    thread.start()
    return pipe, found, thread


def test_a_migrator_inherits_nothing_that_leads_elsewhere() -> None:
    own = {
        "PATH": "/bin", "HOME": "/root", "LANG": "fr", "TZ": "UTC", "PGSSLROOTCERT": "ca.pem",
        "PGPASSWORD": "secret", "PGHOST": "live", "PGDATABASE": "live", "STORAGE_URL": "live",
        "NCEN_CONFIG": "live", "LD_PRELOAD": "x", "PYTHONPATH": "x",
    }  # fmt: skip
    assert migrator_environment(own, {"TZ": "Africa/Dakar", "MODE": "1"}) == {
        "PATH": "/bin", "HOME": "/root", "LANG": "fr", "TZ": "Africa/Dakar", "MODE": "1",
        "PGSSLROOTCERT": "ca.pem",
    }  # fmt: skip
    assert migrator_environment({}, {}) == {"PATH": os.defpath}


def test_it_runs_in_the_slot_with_its_environment_alone(tmp_path: Path) -> None:
    text = "import os; print(os.getcwd(), sorted(os.environ), os.environ['NCEN_DB_CASES_URL'])"
    place = script(tmp_path, text)
    said = run_command(
        command(sys.executable, "-I", place), tmp_path, ENVIRONMENT, Silent(), DATABASES
    )
    assert said.startswith(str(tmp_path))
    assert "sqlite:///somewhere" in said
    assert "HOME" not in said


def test_a_program_of_the_slot_is_found_and_one_of_the_path(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "migrate"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho from the slot $1\n")
    program.chmod(0o755)
    run = command("bin/migrate", "{slot}")
    said = run_command(run, tmp_path, ENVIRONMENT, Silent(), DATABASES)
    assert said == f"from the slot {tmp_path}"
    assert run_command(command("echo", "x"), tmp_path, ENVIRONMENT, Silent(), DATABASES) == "x"


@pytest.mark.parametrize("program", ["bin/migrate", "/nowhere/at/all", "no-such-program"])
def test_a_program_that_is_not_there(tmp_path: Path, program: str) -> None:
    with refused(MIGRATOR_MISSING) as caught:
        run_command(command(program), tmp_path, ENVIRONMENT, Silent(), DATABASES)
    assert program in str(caught.value)
    assert caught.value.values["database"] == "cases, people"


def test_a_failure_carries_the_end_of_its_output(tmp_path: Path) -> None:
    text = "import sys; print('x' * 50_000); print('no relation', file=sys.stderr); sys.exit(3)"
    run = command(sys.executable, script(tmp_path, text))
    with refused(MIGRATOR_FAILED, match=r"failed on cases, people: .*status 3") as caught:
        run_command(run, tmp_path, ENVIRONMENT, Silent(), DATABASES)
    assert caught.value.detail is None  # it may quote rows
    private = caught.value.private
    assert private is not None
    assert private.endswith("no relation")
    assert len(private) <= KEPT_OUTPUT_BYTES


def test_one_that_was_killed_is_a_failure(tmp_path: Path) -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    run = command(sys.executable, script(tmp_path, text))
    with refused(MIGRATOR_FAILED, match="status 137"):
        run_command(run, tmp_path, ENVIRONMENT, Silent(), DATABASES)


def test_out_of_time_its_whole_group_is_ended(tmp_path: Path) -> None:
    pipe, found, thread = listen(tmp_path)
    run = command(sys.executable, script(tmp_path, STAYS), str(pipe), timeout_s=1)
    with refused(MIGRATOR_FAILED, match="not ended after 1 s") as caught:
        run_command(run, tmp_path, ENVIRONMENT, Silent(), DATABASES)
    thread.join()
    assert len(found) == 2
    for pid in found:
        wait_for_death(pid)
    assert caught.value.private == "said before the end"


def test_children_that_it_leaves_are_ended(tmp_path: Path) -> None:
    pipe, found, thread = listen(tmp_path)
    leaves = STAYS.removesuffix("time.sleep(600)\n")
    run = command(sys.executable, script(tmp_path, leaves), str(pipe))
    assert run_command(run, tmp_path, ENVIRONMENT, Silent(), DATABASES) == "said before the end"
    thread.join()
    for pid in found:
        wait_for_death(pid)


def test_it_does_not_outlive_a_killed_agent(tmp_path: Path) -> None:
    pipe, found, thread = listen(tmp_path)
    place = script(tmp_path, STAYS)
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from ncen_updater.agent.databases.migrations.command import run_command\n"
            "from ncen_updater.common.progress import Silent\n"
            "from ncen_updater.formats.manifest import MigratorCommand\n"
            "argv = (sys.executable, *sys.argv[1:3])\n"
            "run = MigratorCommand(argv=argv, timeout_s=600)\n"
            "run_command(run, Path(sys.argv[3]), {}, Silent(), ('cases',))\n",
            place,
            str(pipe),
            str(tmp_path),
        ]
    )
    thread.join()
    assert len(found) == 2
    assert all(Path(f"/proc/{pid}").exists() for pid in found)
    agent.send_signal(signal.SIGKILL)
    assert agent.wait() == -signal.SIGKILL
    for pid in found:
        wait_for_death(pid)


def test_it_gives_signs_of_life(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    class Listener(Told):
        def tell(self, what: Any, done: int | None = None, total: int | None = None) -> None:
            super().tell(what, done, total)
            if len(self.said) == 2:
                gate.write_text("go on")

    told = Listener()
    run = command(
        sys.executable, script(tmp_path, "import sys; open(sys.argv[1]).read()"), str(gate)
    )
    run_command(run, tmp_path, ENVIRONMENT, told, DATABASES, heartbeat_s=0.01)
    assert told.said[0].startswith("the application's migrator has been running for")
