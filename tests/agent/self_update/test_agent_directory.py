"""Tests of the changes that a running agent makes to its directory: failsafe and old slots."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ncen_updater.agent.self_update import agent_directory as after_confirmation
from ncen_updater.agent.self_update.agent_directory import (
    prune_slots,
    read_failsafe,
    update_failsafe,
)
from ncen_updater.agent.storage.agent_selection import AgentSelection, AgentSelectionFile

VERSION = "0.9.0"


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """A directory with one selected slot and its failsafe."""
    programs = tmp_path / VERSION / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "ncen-updater").write_text("#!/bin/sh\n")
    (programs / "ncen-updater").chmod(0o755)
    (tmp_path / VERSION / "slot.json").write_text("{}")
    (tmp_path / "failsafe.py").write_bytes(read_failsafe())
    AgentSelectionFile(tmp_path).update(lambda _: AgentSelection(VERSION))
    return tmp_path


def test_older_failsafe_is_replaced_once(agent: Path) -> None:
    (agent / "failsafe.py").write_bytes(read_failsafe() + b"# older\n")
    assert update_failsafe(agent, Path(sys.executable))
    assert (agent / "failsafe.py").read_bytes() == read_failsafe()
    assert not update_failsafe(agent, Path(sys.executable))


def test_failsafe_incompatible_with_this_python_is_rejected(agent: Path) -> None:
    older = b"# older\n"
    (agent / "failsafe.py").write_bytes(older)
    assert not update_failsafe(agent, Path("/bin/false"))
    assert (agent / "failsafe.py").read_bytes() == older
    assert not list(agent.glob(".failsafe*"))


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("            os.execv(path", "            sys.exit(0), os.execv(path"),
        ("    return run_resume(directory", "    return 0 or len(words"),
        ("write_selection(directory, state)\n    except", "raise ValueError(state)\n    except"),
        (
            "        return StartDecision(state.current, replace(state, attempts",
            "        return StartDecision(state.previous, replace(state, attempts",
        ),
    ],
)
def test_defective_failsafe_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: str, broken: str
) -> None:
    """It would disable every agent, without a way to restore one."""
    older = read_failsafe() + b"# older\n"
    (tmp_path / "failsafe.py").write_bytes(older)
    (tmp_path / ".failsafe.py.left").mkdir()  # of a trial that a power cut ended
    text = read_failsafe().decode()
    assert sound in text
    content = text.replace(sound, broken).encode()
    monkeypatch.setattr(after_confirmation, "read_failsafe", lambda: content)
    assert not update_failsafe(tmp_path, Path(sys.executable))
    assert (tmp_path / "failsafe.py").read_bytes() == older
    assert [path.name for path in tmp_path.iterdir()] == ["failsafe.py"]


def test_unreferenced_slots_are_pruned(agent: Path) -> None:
    for version in ("0.7.0", "0.8.0"):
        (agent / version).mkdir()
        (agent / version / "slot.json").write_text("{}")
    (agent / "1.0.partial").mkdir()
    alive: list[None] = []
    assert prune_slots(agent, lambda: alive.append(None)) == ()
    assert not alive
    AgentSelectionFile(agent).update(lambda _: AgentSelection(VERSION, "0.8.0"))
    assert prune_slots(agent, lambda: alive.append(None)) == ("0.7.0",)
    assert alive, "whoever watches would have ended the service on a slow disk"
    assert sorted(p.name for p in agent.glob("[01]*")) == ["0.8.0", VERSION]
