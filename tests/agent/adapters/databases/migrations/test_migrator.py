"""Tests of the application's own migrator: real programs, real kills."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.base import MigratorUser
from ncen_updater.agent.adapters.databases.migrations.migrator import (
    OUTPUT_TAIL_BYTES,
    build_migrator_environment,
    find_migrator_user,
    run_migrator,
)
from ncen_updater.common.messages import (
    MIGRATOR_FAILED,
    MIGRATOR_MISSING,
    MIGRATOR_OUTSIDE,
    MIGRATOR_USER_UNKNOWN,
)
from ncen_updater.common.progress import Amount, SilentProgress
from ncen_updater.formats.manifest import MigratorCommand
from tests.agent.adapters.databases.migrations.factories import RecordingProgress
from tests.support.errors import refused

ENVIRONMENT = {"PATH": os.defpath, "NCEN_DB_CASES_URL": "sqlite:///somewhere"}
DATABASES = ("cases", "people")
# Ours may lie where the other user cannot go.
PYTHON = shutil.which("python3", path=os.defpath) or sys.executable
USER = MigratorUser("application", 65534, 65534) if os.geteuid() == 0 else None
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

# A migrator with a child of its own; it tells both numbers through a pipe by name and stays.
STAYS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "w") as told:
    told.write(f"{os.getpid()} {child.pid}")
print("said before the end", flush=True)
time.sleep(600)
"""


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Path]:
    """A release's directory that the application's user reaches, and writes to for the tests."""
    place = Path(tempfile.mkdtemp(prefix="nu-slot-"))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


def program(slot: Path, text: str) -> str:
    """A program of the release, and its name for the manifest."""
    path = slot / "migrate"
    path.write_text(f"#!{PYTHON} -I\n{text}")
    path.chmod(0o755)
    return "migrate"


def run(slot: Path, text: str, *words: str, timeout_s: int = 60, **rest: Any) -> str:
    argv = (program(slot, text), *words)
    made = MigratorCommand(argv=argv, timeout_s=timeout_s)
    told = rest.pop("progress", SilentProgress())
    return run_migrator(made, slot, ENVIRONMENT, told, DATABASES, user=USER, **rest)


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
    pipe.chmod(0o666)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(map(int, pipe.read_text().split())))
    thread.start()
    return pipe, found, thread


def test_migrator_environment_inherits_no_misleading_variables() -> None:
    own = {
        "PATH": "/bin", "HOME": "/root", "LANG": "fr", "TZ": "UTC", "PGSSLROOTCERT": "ca.pem",
        "PGPASSWORD": "secret", "PGHOST": "live", "PGDATABASE": "live", "STORAGE_URL": "live",
        "NCEN_CONFIG": "live", "LD_PRELOAD": "x", "PYTHONPATH": "x",
    }  # fmt: skip
    assert build_migrator_environment(own, {"TZ": "Africa/Dakar", "MODE": "1"}) == {
        "PATH": "/bin", "HOME": "/root", "LANG": "fr", "TZ": "Africa/Dakar", "MODE": "1",
        "PGSSLROOTCERT": "ca.pem",
    }  # fmt: skip
    assert build_migrator_environment({}, {}) == {"PATH": os.defpath}


def test_migrator_environment_names_its_user() -> None:
    own = {"PATH": "/bin", "HOME": "/root", "USER": "root", "TMPDIR": "/root/tmp", "LANG": "fr"}
    assert build_migrator_environment(own, {}, MigratorUser("ncen", 7, 7, "/srv/ncen")) == {
        "PATH": "/bin", "LANG": "fr", "HOME": "/srv/ncen", "USER": "ncen", "LOGNAME": "ncen",
    }  # fmt: skip


def test_migrator_runs_in_its_slot_with_its_own_environment(slot: Path) -> None:
    text = "import os; print(os.getcwd(), sorted(os.environ), os.environ['NCEN_DB_CASES_URL'])"
    said = run(slot, text)
    assert said.startswith(str(slot))
    assert "sqlite:///somewhere" in said
    assert "HOME" not in said


def test_slot_placeholder_is_replaced_in_arguments(slot: Path) -> None:
    assert run(slot, "import sys; print(sys.argv[1])", "{slot}/x") == f"{slot}/x"


@pytest.mark.parametrize("name", ["bin/migrate", "no-such-program", "directory", "may-not-run"])
def test_missing_migrator_is_an_error(slot: Path, name: str) -> None:
    (slot / "directory").mkdir()
    (slot / "may-not-run").write_text("#!/bin/sh\n")
    (slot / "may-not-run").chmod(0o644)
    made = MigratorCommand(argv=(name,))
    with refused(MIGRATOR_MISSING, match=name):
        run_migrator(made, slot, ENVIRONMENT, SilentProgress(), DATABASES, user=USER)


@pytest.mark.parametrize("name", ["/bin/sh", "../sh", "bin/../../sh", "./sh", "bin//sh", "linked"])
def test_system_program_is_rejected_as_migrator(slot: Path, name: str) -> None:
    """Seen: 'sh -c' of the manifest ran as root, with all capabilities."""
    (slot / "linked").symlink_to("/bin/sh")
    made = MigratorCommand(argv=(name, "-c", "true"))
    with refused(MIGRATOR_OUTSIDE, match=name):
        run_migrator(made, slot, ENVIRONMENT, SilentProgress(), DATABASES, user=USER)


SELF = """
import os, json, socket
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
def refused(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "caps": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(),
    "write": refused(lambda: open("%(root)s/planted", "w")),
    "read": refused(lambda: open("%(root)s/secret")),
    "root": refused(lambda: os.setuid(0)),
    "parent": refused(lambda: os.kill(os.getppid(), 9)),
}))
"""


@needs_root
def test_migrator_runs_without_capabilities(slot: Path, tmp_path: Path) -> None:
    """Seen: uid=0(root), and full capabilities."""
    place = slot.with_name(slot.name + "-root")
    place.mkdir(0o755)
    try:
        (place / "secret").write_text("")
        (place / "secret").chmod(0o600)
        said = json.loads(run(slot, SELF % {"root": place}))
        assert not (place / "planted").exists()
    finally:
        shutil.rmtree(place)
    assert said["ids"] == [[65534] * 3, [65534] * 3, []]
    assert said["caps"] == [0, 0, 0, 0]
    assert said["no_new_privs"] == "1"
    for act in ("write", "read", "root", "parent"):
        assert said[act] == "PermissionError", act


@needs_root
@pytest.mark.parametrize("user", [None, MigratorUser("root", 0, 0)])
def test_migrator_never_runs_as_root(slot: Path, user: MigratorUser | None) -> None:
    made = MigratorCommand(argv=(program(slot, "open('ran', 'w')"),))
    with refused(MIGRATOR_USER_UNKNOWN):
        run_migrator(made, slot, ENVIRONMENT, SilentProgress(), DATABASES, user=user)
    assert not (slot / "ran").exists()


@needs_root
def test_migrator_user_is_resolved() -> None:
    entry = pwd.getpwuid(65534)
    named = find_migrator_user(entry.pw_name, (12, 13))
    assert named == MigratorUser(entry.pw_name, 65534, entry.pw_gid, entry.pw_dir)
    assert find_migrator_user(None, (12, 13)) == MigratorUser("12", 12, 13)
    for name, owner in ((None, None), (None, (0, 0)), ("root", (12, 13)), ("no-such-user", None)):
        with refused(MIGRATOR_USER_UNKNOWN):
            find_migrator_user(name, owner)


@pytest.mark.skipif(os.geteuid() == 0, reason="about everybody but root")
def test_unprivileged_agent_runs_the_migrator_itself() -> None:
    assert find_migrator_user("root", (0, 0)) is None


def test_failed_migrator_error_contains_the_end_of_its_output(slot: Path) -> None:
    text = "import sys; print('x' * 50_000); print('no relation', file=sys.stderr); sys.exit(3)"
    with refused(MIGRATOR_FAILED, match=r"failed on cases, people: .*exit code 3") as caught:
        run(slot, text)
    assert caught.value.detail is None  # it may quote rows
    private = caught.value.raw_error
    assert private is not None
    assert private.endswith("no relation")
    assert len(private) <= OUTPUT_TAIL_BYTES


def test_killed_migrator_is_a_failure(slot: Path) -> None:
    with refused(MIGRATOR_FAILED, match="exit code 137"):
        run(slot, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_migrator_without_its_interpreter_is_a_failure(slot: Path) -> None:
    (slot / "migrate").write_text("#!/no/such/interpreter\n")
    (slot / "migrate").chmod(0o755)
    made = MigratorCommand(argv=("migrate",))
    with refused(MIGRATOR_FAILED, match="exit code 126"):
        run_migrator(made, slot, ENVIRONMENT, SilentProgress(), DATABASES, user=USER)


def test_timed_out_migrator_is_killed_with_its_process_group(slot: Path) -> None:
    pipe, found, thread = listen(slot)
    with refused(MIGRATOR_FAILED, match="timed out after 3 s") as caught:
        run(slot, STAYS, str(pipe), timeout_s=3)
    thread.join()
    assert len(found) == 2
    for pid in found:
        wait_for_death(pid)
    assert caught.value.raw_error == "said before the end"


def test_children_left_by_a_migrator_are_killed(slot: Path) -> None:
    pipe, found, thread = listen(slot)
    leaves = STAYS.removesuffix("time.sleep(600)\n")
    assert run(slot, leaves, str(pipe)) == "said before the end"
    thread.join()
    for pid in found:
        wait_for_death(pid)


def test_migrator_does_not_outlive_a_killed_agent(slot: Path) -> None:
    pipe, found, thread = listen(slot)
    name = program(slot, STAYS)
    user = "None" if USER is None else "MigratorUser('application', 65534, 65534)"
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from ncen_updater.agent.adapters.databases.migrations.migrator import run_migrator\n"
            "from ncen_updater.agent.adapters.databases.base import MigratorUser\n"
            "from ncen_updater.common.progress import SilentProgress\n"
            "from ncen_updater.formats.manifest import MigratorCommand\n"
            "run = MigratorCommand(argv=tuple(sys.argv[1:3]), timeout_s=600)\n"
            f"run_migrator(run, Path(sys.argv[3]), {{}}, SilentProgress(), ('cases',), "
            f"user={user})\n",
            name,
            str(pipe),
            str(slot),
        ]
    )
    thread.join()
    assert len(found) == 2
    assert all(Path(f"/proc/{pid}").exists() for pid in found)
    agent.send_signal(signal.SIGKILL)
    assert agent.wait() == -signal.SIGKILL
    for pid in found:
        wait_for_death(pid)


def test_running_migrator_reports_progress(slot: Path) -> None:
    gate = slot / "gate"
    os.mkfifo(gate)
    gate.chmod(0o666)

    class Listener(RecordingProgress):
        def report(self, text: Any, amount: Amount | None = None) -> None:
            super().report(text, amount)
            if len(self.said) == 2:
                gate.write_text("go on")

    told = Listener()
    text = "import sys; open(sys.argv[1]).read()"
    run(slot, text, str(gate), progress=told, heartbeat_s=0.01)
    assert " has been running for" in told.said[0]
