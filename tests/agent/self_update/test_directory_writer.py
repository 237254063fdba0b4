"""Tests of five actions in the agent's directory, done by the unit that may write there."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.self_update.agent_directory import (
    ActionHandler,
    DirectoryAction,
    choose_action_handler,
)
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)
from ncen_updater.common.landlock import iter_paths_outside
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE
from ncen_updater.common.workers import Worker, WorkerError, call_worker
from tests.support.activation import ACTIVATOR, activated
from tests.support.errors import refused

MODULE = "ncen_updater.agent.cli.worker"
needs_activator = pytest.mark.skipif(
    ACTIVATOR is None, reason="systemd-socket-activate is not installed"
)
TRYING = AgentSelection("2.0", "1.0", TrialState.ON_TRIAL, 1)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    place = tmp_path / "opt/agent"
    place.mkdir(parents=True)
    AgentSelectionFile(place).update(lambda _: TRYING)
    return place


def doer(agent: Path, socket: Path) -> ActionHandler:
    return choose_action_handler(agent, socket, "2.0", lambda: datetime.now(UTC), lambda: None)


def unit(agent: Path) -> list[str]:
    variables = ["NCEN_RENEWS=yes", f"NCEN_FAILSAFE_DIRECTORY={agent}"]
    return ["/usr/bin/env", *variables, sys.executable, "-I", "-m", MODULE, "/no/agent.toml"]


def test_privileged_caller_writes_the_directory_itself(agent: Path, tmp_path: Path) -> None:
    doer(agent, tmp_path / "none")(DirectoryAction.CONFIRM)
    assert AgentSelectionFile(agent).load() == AgentSelection("2.0", "1.0")


@needs_activator
def test_unit_performs_directory_actions_of_the_service(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the configuration is what is wrong: it is not read."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    path = tmp_path / "renew.sock"
    with activated(path, unit(agent), tmp_path / "log"):
        do = doer(agent, path)
        do(DirectoryAction.UNCOUNT_START)
        found = AgentSelectionFile(agent).load()
        assert found is not None and found.attempts == 0
        do(DirectoryAction.CONFIRM)
        assert AgentSelectionFile(agent).load() == AgentSelection("2.0", "1.0")
        (agent / "sequence.json").write_text("{")
        with pytest.raises(Exception, match=r"sequence\.json") as error:
            do(DirectoryAction.RESET_ATTEMPTS)
        assert getattr(error.value, "code", None) == "NU-9401"


@needs_activator
@pytest.mark.parametrize(
    "words",
    [["own", "shell", "2.0"], ["own", "confirm", "../x"], ["own", "confirm"], ["upgrade"]],
)
def test_unit_does_no_other_work(agent: Path, tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "renew.sock"
    refusal = pytest.raises(WorkerError, match="NU-9312")
    with activated(path, unit(agent), tmp_path / "log"), refusal:
        call_worker(Worker("none", socket=path), {"command": words})
    assert AgentSelectionFile(agent).load() == TRYING


@needs_activator
def test_silent_unit_leaves_the_selection_unchanged(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of the machine, where systemd starts nothing any more."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    path = tmp_path / "renew.sock"
    with activated(path, ["/bin/true"], tmp_path / "log"), refused(SEQUENCE_UNWRITABLE):
        doer(agent, path)(DirectoryAction.UNCOUNT_START)
    assert AgentSelectionFile(agent).load() == TRYING


def test_paths_outside_one_directory_are_listed(tmp_path: Path) -> None:
    agent = tmp_path / "opt" / "agent"
    agent.mkdir(parents=True)
    beside = tmp_path / "opt" / "beside"
    beside.touch()
    allowed = set(iter_paths_outside(agent))
    assert beside in allowed
    assert not any(agent.is_relative_to(place) for place in allowed)
