"""Tests of faults of the application, and of starts and stops by people, during a change."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from demo.databases import SqlitePlace
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError, SoakFailedError, StopError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import STOPPED_BUT_ANSWERS
from ncen_updater.common.progress import SilentProgress
from tests.faults.full import prepared
from tests.faults.test_scenarios import At, at, killed_upgrade, operations
from tests.faults.trial import NEW, OLD, Trial
from tests.support.errors import has_message
from tests.support.rotation import in_turns
from tests.support.sites import site_in_process


@pytest.fixture(scope="module")
def module_trial() -> Iterator[Trial]:
    with prepared("sqlite") as trial:
        yield trial


@pytest.fixture
def trial(module_trial: Trial) -> Iterator[Trial]:
    module_trial.demo.configure({})
    module_trial.reset()
    yield module_trial
    module_trial.demo.configure({})


def configure(trial: Trial, **changes: object) -> None:
    """Change settings of the table [application]."""
    trial.demo.configure({})
    settings = trial.demo._settings()["application"]
    trial.demo.configure({"application": {**settings, **changes}})


def impatient(trial: Trial) -> None:
    """Wait for health no longer than a release needs that never becomes healthy."""
    trial.demo.configure(
        {"application": {**trial.demo._settings()["application"], "health_timeout_s": 10.0}}
    )


def script(trial: Trial, name: str, text: str) -> list[str]:
    place = trial.demo.root / name
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)
    return [str(place)]


def control(slot: str, act: str) -> str:
    return f"{shlex.quote(sys.executable)} -S -B {slot}/app/bin/ncenctl {act}"


def run_old(trial: Trial, act: str) -> None:
    """As a person does who knows of no change: the old release, whatever 'current' says."""
    subprocess.run(
        [sys.executable, "-S", "-B", str(trial.demo.slots / OLD / "app/bin/ncenctl"), act],
        env={**os.environ, **trial.demo.environment()},
        check=True,
    )


def server_pid(trial: Trial) -> int:
    return int((trial.demo.run / "ncen.pid").read_text().split()[0])


def kill_server(trial: Trial) -> None:
    """SIGKILL the application and wait until it is gone."""
    process = os.pidfd_open(server_pid(trial))
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [], 30)
    os.close(process)


def bad_releases(trial: Trial) -> list[str]:
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        return [bad.version for bad in SiteHistory(journal).list_bad_releases()]


@in_turns("manners")
@pytest.mark.parametrize("manners", ["plain", "daemon"])
def test_start_command_does_not_outlive_a_killed_agent(trial: Trial, manners: str) -> None:
    """The start command takes its time and has resolved the link; the agent is killed meanwhile."""
    told, gate = trial.demo.root / f"told-{manners}", trial.demo.root / f"gate-{manners}"
    for pipe in (told, gate):
        os.mkfifo(pipe)
    waits = f"echo begun > {told}; read line < {gate}; {control('$slot', 'start')}"
    if manners == "daemon":  # in a session of its own, and without a parent
        late = f"slot=$slot setsid sh -c {shlex.quote(waits)} &\n  wait"
    else:
        late = waits
    start = script(
        trial,
        "start",
        f'slot=$(readlink -f "$NCEN_CURRENT")\n'
        f"case $slot in *{NEW})\n  {late};;\n*) {control('$slot', 'start')};; esac",
    )
    configure(trial, start=start)
    agent = trial.start("upgrade")
    assert told.read_text() == "begun\n"
    agent.kill()
    agent.communicate()
    assert trial.operate("resume-auto").endswith("exit 0\n")
    # No process is left that would pass the gate.
    with pytest.raises(OSError, match="No such device"):
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    assert trial.settle() == (OLD, 0)


def test_manually_started_old_application_is_stopped_first(trial: Trial) -> None:
    instants: dict[At, Callable[[], None]] = {
        (StepName.START, StepPhase.BEFORE_EFFECT): lambda: run_old(trial, "start")
    }
    operations(trial, instants).upgrade()
    assert trial.judge() == NEW
    assert bad_releases(trial) == []


def test_old_application_at_the_address_is_not_blamed_on_the_new_release(trial: Trial) -> None:
    def start_old_release() -> None:
        run_old(trial, "stop")
        run_old(trial, "start")

    operations(trial, {(StepName.HEALTH, StepPhase.BEFORE_EFFECT): start_old_release}).upgrade()
    assert trial.judge() == NEW
    assert bad_releases(trial) == []


def test_killed_application_is_started_once_more(trial: Trial) -> None:
    instants: dict[At, Callable[[], None]] = {
        (StepName.HEALTH, StepPhase.BEFORE_EFFECT): lambda: kill_server(trial)
    }
    operations(trial, instants).upgrade()
    assert trial.judge() == NEW
    assert bad_releases(trial) == []


def test_release_that_exits_at_each_start_is_marked_bad(trial: Trial) -> None:
    kills = f"kill -9 $(cut -d' ' -f1 {trial.demo.run}/ncen.pid)"
    start = script(
        trial,
        "start",
        f'slot=$(readlink -f "$NCEN_CURRENT")\n{control("$slot", "start")} || exit 1\n'
        f"case $slot in *{NEW}) {kills};; esac",
    )
    configure(trial, start=start)
    impatient(trial)
    with pytest.raises(ChangeFailedError):
        operations(trial).upgrade()
    assert trial.settle()[0] == OLD
    assert bad_releases(trial) == [NEW]


def test_killed_start_command_is_repeated(trial: Trial) -> None:
    once = trial.demo.root / "once"
    once.unlink(missing_ok=True)
    start = script(
        trial,
        "start",
        f'slot=$(readlink -f "$NCEN_CURRENT")\n'
        f"case $slot in *{NEW}) test -e {once} || {{ touch {once}; kill -9 $$; }};; esac\n"
        f"{control('$slot', 'start')}",
    )
    configure(trial, start=start)
    operations(trial).upgrade()
    assert trial.judge() == NEW


class ForeignServer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"version": "9.9.9"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_foreign_application_at_the_address_is_reported_without_blame(trial: Trial) -> None:
    found: list[http.server.HTTPServer] = []

    def come() -> None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", trial.demo.app_port), ForeignServer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.append(server)

    def go() -> None:
        found[0].shutdown()
        found[0].server_close()

    instants: dict[At, Callable[[], None]] = {
        (StepName.START, StepPhase.BEFORE_EFFECT): come,
        (StepName.START, StepPhase.AFTER_UNDO): go,
    }
    impatient(trial)
    with pytest.raises(ChangeFailedError) as caught:
        operations(trial, instants).upgrade()
    assert has_message(caught.value.__cause__, STOPPED_BUT_ANSWERS)
    assert trial.settle() == (OLD, 0)
    assert bad_releases(trial) == []


def test_revert_waits_for_a_slow_stop_before_starting(trial: Trial) -> None:
    """The stop takes longer than the agent waits; it ends during the revert."""
    configure(trial, stop=["true"], stop_timeout_s=0.5)
    left: list[Callable[[], None]] = []

    def wait(seconds: float) -> None:
        if left:
            left.pop()()
        SystemClock().wait(seconds)

    site = dataclasses.replace(site_in_process(trial.demo), clock=SystemClock(wait=wait))
    instants: dict[At, Callable[[], None]] = {
        (StepName.STOP, StepPhase.BEFORE_UNDO): lambda: left.append(lambda: run_old(trial, "stop"))
    }
    before = server_pid(trial)
    with pytest.raises(ChangeFailedError) as caught:
        Operations(site, SilentProgress(), checkpoint=at(instants)).upgrade()
    assert isinstance(caught.value.__cause__, StopError)
    assert left == []
    assert trial.settle() == (OLD, 0)
    assert server_pid(trial) != before


def test_application_that_refuses_to_stop_is_left_running(trial: Trial) -> None:
    configure(trial, stop=["false"])
    before = server_pid(trial)
    with pytest.raises(ChangeFailedError):
        operations(trial).upgrade()
    assert trial.settle() == (OLD, 0)
    assert server_pid(trial) == before


WORKER = """\
import os, signal, subprocess, sys
place, act = sys.argv[1:]
def pid():
    try:
        number = int(open(place + "/pid").read())
        with open(f"/proc/{number}/stat") as stat:
            return None if stat.read().rsplit(") ", 1)[1][0] == "Z" else number
    except (OSError, ValueError):
        return None
with open(place + "/said", "a") as said:
    door = os.path.exists(os.environ["NCEN_MAINTENANCE_FILE"])
    if act != "status":
        slot = os.path.basename(os.path.realpath(os.environ["NCEN_CURRENT"]))
        said.write(f"{act} {slot} {'closed' if door else 'open'}\\n")
if act == "start":
    argv = ["true"] if os.path.exists(place + "/broken") else ["sleep", "1000"]
    child = subprocess.Popen(argv, start_new_session=True)
    open(place + "/pid", "w").write(str(child.pid))
elif act == "stop":
    if pid():
        handle = os.pidfd_open(pid())
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        import select
        select.select([handle], [], [], 30)
else:
    sys.exit(0 if pid() else 3)
"""


class Parts:
    """A worker that health needs, and one that starts after maintenance."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.places = {name: trial.demo.root / f"part-{name}" for name in ("import", "mail")}
        program = trial.demo.root / "worker.py"
        program.write_text(WORKER)
        parts = []
        for name, place in self.places.items():
            place.mkdir(exist_ok=True)
            for item in place.iterdir():
                item.unlink()
            part: dict[str, object] = {"name": name, "start_after_maintenance": name == "mail"}
            for act in ("start", "stop", "status"):
                part[act] = [sys.executable, str(program), str(place), act]
            parts.append(part)
        configure(trial, parts=parts)
        application = site_in_process(trial.demo).application
        application.start()
        application.start_deferred_parts()
        for place in self.places.values():
            (place / "said").unlink()

    def said(self, name: str) -> list[str]:
        return (self.places[name] / "said").read_text().splitlines()

    def running(self) -> set[str]:
        missing = site_in_process(self.trial.demo).application.find_missing_parts(
            include_deferred=True
        )
        return set(self.places) - set(missing)

    def stop(self) -> None:
        for place in self.places.values():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((place / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def parts(trial: Trial) -> Iterator[Parts]:
    made = Parts(trial)
    yield made
    made.stop()


def test_parts_are_started_in_order_and_deferred_parts_after_maintenance(
    trial: Trial, parts: Parts
) -> None:
    operations(trial).upgrade()
    assert trial.judge() == NEW
    assert parts.said("import") == [f"stop {OLD} closed", f"start {NEW} closed"]
    assert parts.said("mail") == [f"stop {OLD} closed", f"start {NEW} open"]


def test_worker_that_dies_at_each_start_fails_the_upgrade(trial: Trial, parts: Parts) -> None:
    broken = parts.places["import"] / "broken"
    instants: dict[At, Callable[[], None]] = {
        (StepName.START, StepPhase.BEFORE_EFFECT): broken.touch,
        (StepName.SWITCH, StepPhase.BEFORE_UNDO): broken.unlink,
    }
    impatient(trial)
    with pytest.raises(ChangeFailedError, match="'import': not running"):
        operations(trial, instants).upgrade()
    assert trial.settle() == (OLD, 0)
    assert bad_releases(trial) == [NEW]
    assert parts.running() == {"import", "mail"}
    # Never started on what was thrown away.
    assert parts.said("mail") == [f"stop {OLD} closed", f"start {OLD} closed"]


def test_deferred_worker_that_dies_fails_the_soak(trial: Trial, parts: Parts) -> None:
    broken = parts.places["mail"] / "broken"
    left = at({(StepName.MAINTENANCE_OFF, StepPhase.BEFORE_EFFECT): broken.touch})

    def checkpoint(step: StepName, phase: StepPhase) -> None:
        left(step, phase)
        if (step, phase) == (StepName.MIGRATE, StepPhase.BEFORE_EFFECT):
            broken.unlink(missing_ok=True)  # for the rollback

    with pytest.raises(SoakFailedError, match="'mail': not running"):
        Operations(site_in_process(trial.demo), SilentProgress(), checkpoint=checkpoint).upgrade()
    assert trial.judge() == OLD
    assert parts.running() == {"import", "mail"}


def test_kill_before_deferred_parts_start_omits_none(trial: Trial, parts: Parts) -> None:
    killed_upgrade(trial, StepName.MAINTENANCE_OFF, StepPhase.BEFORE_EFFECT)
    assert parts.running() == {"import"}
    assert trial.settle() == (NEW, 0)
    assert parts.running() == {"import", "mail"}


def test_part_without_its_databases_is_not_blamed_on_the_release(
    trial: Trial, parts: Parts
) -> None:
    """They are away when users come in, and for some looks."""
    place = trial.demo.databases
    assert isinstance(place, SqlitePlace)
    live, away = place.directory / "live", place.directory.with_name("away")
    broken, waits = parts.places["mail"] / "broken", iter(range(100))

    def go() -> None:
        live.rename(away)

    def wait(seconds: float) -> None:
        if away.is_symlink() and next(waits) == 6:
            away.rename(live)
            broken.unlink()
        SystemClock().wait(seconds)

    instants: dict[At, Callable[[], None]] = {
        (StepName.MAINTENANCE_OFF, StepPhase.BEFORE_EFFECT): broken.touch,
        (StepName.SOAK, StepPhase.BEFORE_EFFECT): go,
    }
    site = dataclasses.replace(site_in_process(trial.demo), clock=SystemClock(wait=wait))
    Operations(site, SilentProgress(), checkpoint=at(instants)).upgrade()
    assert next(waits) > 6
    assert trial.judge() == NEW
    assert bad_releases(trial) == []
    assert parts.running() == {"import", "mail"}
