"""Tests of a part of ``python -m benchmarks.selfupdate``, and of every instant of a selection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ncen_updater.agent import failsafe
from ncen_updater.agent.failsafe import CONFIRMED, ON_TRIAL, SlotSelection, StartDecision
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    begin_trial,
    confirm_agent,
)
from tests.support.forks import DEADLINE_S
from tests.support.kill_points import changes_of, killed_at

ROOT = Path(__file__).resolve().parents[3]


def test_broken_agents_of_every_kind_are_replaced() -> None:
    words = ["--trials", "9", "--seed", "5", "--patience", "4", "--jobs", "3"]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.selfupdate", *words], cwd=ROOT, capture_output=True,
        text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert (figures["trials"], figures["without_a_working_agent"]) == (9, 0), ended.stderr
    assert ended.returncode == 0
    if figures["left_out"]:
        pytest.skip(f"no small disk can be mounted here: left out are {figures['left_out']}")


def make(directory: Path, *versions: str) -> None:
    for version in versions:
        place = directory / version / "bin"
        place.mkdir(parents=True)
        for name in ("python", "ncen-updater"):
            (place / name).write_text("#!/bin/sh\n")
            (place / name).chmod(0o755)


def chosen(directory: Path) -> str | None:
    """What the failsafe would start."""
    state, link = failsafe.read_selection(directory), failsafe.read_link(directory)
    return failsafe.decide_start(state, link, failsafe.list_usable_slots(directory), "-").version


@pytest.mark.parametrize("target", ["missing", "bin/python/missing", "link"])
def test_link_to_nothing_in_a_slot_stops_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)  # only root examines the owners
    make(tmp_path, "1.0", "2.0")
    owned = [path for path in tmp_path.rglob("*") if path.stat().st_uid == 0]
    (tmp_path / "2.0/link").symlink_to(target)
    assert failsafe.list_usable_slots(tmp_path) == (["1.0", "2.0"] if owned else [])


def test_kill_while_selecting_starts_either_agent(tmp_path: Path) -> None:
    def choose(directory: Path) -> None:
        AgentSelectionFile(directory).update(
            lambda b: begin_trial(b or AgentSelection("1.0"), "2.0")
        )

    def fresh(number: int) -> Path:
        directory = tmp_path / str(number)
        make(directory, "1.0", "2.0")
        AgentSelectionFile(directory).update(lambda _: AgentSelection("1.0"))
        return directory

    untouched = fresh(0)
    last = changes_of(lambda: choose(untouched))
    assert last >= 4
    seen = set()
    for number in range(1, last + 1):
        directory = fresh(number)
        assert killed_at(number, lambda place=directory: choose(place))  # type: ignore[misc]
        state = failsafe.read_selection(directory)
        assert state is not None, "the file is whole at every instant"
        assert chosen(directory) == state.current
        seen.add(state.current)
        choose(directory)
        state = failsafe.read_selection(directory)
        assert state == SlotSelection("2.0", state.previous if state else None, ON_TRIAL)
        assert (directory / "current").readlink() == Path("2.0")
    assert seen == {"1.0", "2.0"}


def test_kill_while_writing_the_failsafe_leaves_it_usable(
    tmp_path: Path,
) -> None:
    worn = AgentSelection("2.0", "1.0", attempts=0)

    def return_to_previous(directory: Path) -> None:
        state = SlotSelection("2.0", "1.0", ON_TRIAL, failsafe.MAX_TRIAL_STARTS)
        usable = failsafe.list_usable_slots(directory)
        choice: StartDecision = failsafe.decide_start(
            state, "2.0", usable, "2026-01-01T00:00:00+00:00"
        )
        failsafe.record_decision(directory, choice, usable)

    def fresh(number: int) -> Path:
        directory = tmp_path / str(number)
        make(directory, "1.0", "2.0")
        AgentSelectionFile(directory).update(lambda _: worn)
        failsafe.write_selection(
            directory, SlotSelection("2.0", "1.0", ON_TRIAL, failsafe.MAX_TRIAL_STARTS)
        )
        return directory

    untouched = fresh(0)
    last = changes_of(lambda: return_to_previous(untouched))
    for number in range(1, last + 1):
        directory = fresh(number)
        assert killed_at(number, lambda place=directory: return_to_previous(place))  # type: ignore[misc]
        assert chosen(directory) == "1.0"
        return_to_previous(directory)
        state = failsafe.read_selection(directory)
        assert state is not None
        assert (state.current, state.state) == ("1.0", CONFIRMED)
        assert AgentSelectionFile(directory).load() is not None
        assert (directory / "current").readlink() == Path("1.0")


def test_killed_confirmation_is_repeated_by_the_next_start(tmp_path: Path) -> None:
    def write(directory: Path) -> None:
        AgentSelectionFile(directory).update(
            lambda b: confirm_agent(b or AgentSelection("9"), "2.0")
        )

    def fresh(number: int) -> Path:
        directory = tmp_path / str(number)
        make(directory, "1.0", "2.0")
        AgentSelectionFile(directory).update(lambda _: begin_trial(AgentSelection("1.0"), "2.0"))
        return directory

    untouched = fresh(0)
    for number in range(1, changes_of(lambda: write(untouched)) + 1):
        directory = fresh(number)
        killed_at(number, lambda place=directory: write(place))  # type: ignore[misc]
        assert chosen(directory) == "2.0"
        write(directory)
        found = AgentSelectionFile(directory).load()
        assert found is not None
        assert found.state == CONFIRMED
