"""Tests of the real service on trial: confirmation, giving up, and handing over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent import failsafe
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.site_factory import read_agent_version
from ncen_updater.agent.model.event_names import AGENT_CONFIRMED, JOURNAL_FILE
from ncen_updater.agent.self_update.agent_directory import SYSTEM_PYTHON, read_failsafe
from ncen_updater.agent.storage.agent_selection import (
    STARTED_BY,
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH
from ncen_updater.common.messages import ExitCode
from tests.support.forks import DEADLINE_S

MINE = str(read_agent_version())
TRYING = AgentSelection(MINE, "0.0.1", TrialState.ON_TRIAL, 1)


class Place:
    def __init__(self, demo: DemoSite) -> None:
        self.demo = demo
        self.file = AgentSelectionFile(demo.root / "opt/ncen-updater")
        self.file.update(lambda _: TRYING)

    @property
    def sequence(self) -> AgentSelection | None:
        return self.file.load()

    @contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        kept = {k: v for k, v in os.environ.items() if k == "PATH" or k.startswith("COVERAGE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "ncen_updater.agent.cli.main", "serve"],
            env={
                **kept,
                "NCEN_CONFIG_FILE": str(self.demo.config_path),
                STARTED_BY: str(self.file.directory),
            },
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert process.poll() is None, "the service ended"
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = {"service": {"confirm_agent_s": 0.5, "mode": "notify"}}
    with DemoSite(tmp_path, options=SiteOptions(cases=2, settings=settings)) as demo:
        Journal.create(demo.state / JOURNAL_FILE).close()
        yield Place(demo)


def test_agent_confirms_itself_and_is_replaced_later(place: Place) -> None:
    other = place.file.directory / "9.9"
    other.mkdir()
    (other / "slot.json").write_text("{}")
    for name in ("bin/python", "bin/ncen-updater"):
        (place.file.directory / MINE / name).parent.mkdir(parents=True, exist_ok=True)
        (place.file.directory / MINE / name).write_text("#!/bin/sh\n")
        (place.file.directory / MINE / name).chmod(0o755)
    with place.service() as process:
        until(lambda: place.sequence == AgentSelection(MINE, "0.0.1"), process)
        until(lambda: not other.exists(), process)
        with Journal.open(place.demo.state / JOURNAL_FILE, read_only=True) as journal:
            told = [event.data for event in journal.list_events() if event.kind == AGENT_CONFIRMED]
        assert told == [{"version": MINE}]
        if SYSTEM_PYTHON.exists():
            assert (place.file.directory / "failsafe.py").read_bytes() == read_failsafe()
        place.file.update(lambda _: AgentSelection("9.9", MINE, TrialState.ON_TRIAL))
        process.send_signal(signal.SIGHUP)
        assert process.wait(DEADLINE_S) == ExitCode.OK


def test_agent_without_its_databases_gives_up(place: Place) -> None:
    for path in place.demo.root.glob("srv/ncen/databases/**/*.sqlite"):
        path.unlink()
    with place.service() as process:
        assert process.wait(DEADLINE_S) == ExitCode.ERROR
    assert place.sequence == TRYING


@pytest.mark.parametrize(("end", "left"), [(signal.SIGTERM, 2), (signal.SIGKILL, 3)])
def test_termination_is_not_an_early_exit(place: Place, end: signal.Signals, left: int) -> None:
    """Or a person who restarts the service a few times would have lost a good agent."""
    place.demo.configure({"service": {"confirm_agent_s": 1000, "mode": "notify"}})
    before = AgentSelection(MINE, "0.0.1", TrialState.CONFIRMED, 3)
    place.file.update(lambda _: before)
    known = place.demo.state / SERVICE_STATE_PATH
    with place.service() as process:
        until(lambda: known.exists() and b"event" in known.read_bytes(), process)
        process.send_signal(end)
        process.wait(DEADLINE_S)
    assert place.sequence == replace(before, attempts=left)


def test_offline_unit_with_an_online_configuration_is_not_blamed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replace(TRYING, state=TrialState.CONFIRMED, attempts=4)
    place.file.update(lambda _: before)
    monkeypatch.setenv("NCEN_RUNNER", "systemd")
    monkeypatch.setenv(STARTED_BY, str(place.file.directory))
    said = subprocess.run(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", "--config",
         str(place.demo.config_path), "serve"],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert said.returncode == ExitCode.ERROR
    assert "NU-1007" in said.stderr
    assert place.sequence == replace(before, attempts=0)


@pytest.mark.parametrize("state", TrialState)
def test_configuration_mistake_is_not_blamed_on_a_confirmed_agent(
    place: Place, state: TrialState
) -> None:
    before = replace(TRYING, state=state, attempts=4)
    place.file.update(lambda _: before)
    text = place.demo.config_path.read_text()
    place.demo.config_path.write_text(text.replace("confirm_agent_s", "confirm_agnet_s"))
    with place.service() as process:
        assert process.wait(DEADLINE_S) == ExitCode.ERROR
    left = 0 if state is TrialState.CONFIRMED else 4
    assert place.sequence == replace(before, attempts=left)


def test_second_service_is_not_blamed(place: Place) -> None:
    before = replace(TRYING, state=TrialState.CONFIRMED, attempts=4)
    place.file.update(lambda _: before)
    lock = place.demo.state / "service/service.lock"
    with hold_change_lock(lock, "service"), place.service() as process:
        assert process.wait(DEADLINE_S) == ExitCode.BUSY
    assert place.sequence == replace(before, attempts=0)


def test_agent_and_failsafe_share_the_variable_name() -> None:
    assert failsafe.DIRECTORY_VARIABLE == STARTED_BY
