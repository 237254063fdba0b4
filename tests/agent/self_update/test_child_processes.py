"""Tests of programs that an agent update starts: environment, time limit, no leftovers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.self_update import agent_directory as after_confirmation
from ncen_updater.agent.self_update import slots
from ncen_updater.agent.self_update.slots import AgentSlots
from ncen_updater.common.errors import UpdaterError

SECRET = 'test -z "$PGPASSWORD" && test "$PWD" = / && echo well'


def ends(number: int) -> bool:
    """Whether a process is gone, or has ended and waits for its parent."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_build_of_a_slot_leaves_no_processes(tmp_path: Path) -> None:
    note = tmp_path / "number"
    words = ["/bin/sh", "-c", f"sleep 600 & echo $! > {note}; echo made"]
    said = AgentSlots._run_command("1.0", words, tmp_path)
    assert said == "made"
    assert ends(int(note.read_text()))


def test_build_of_a_slot_is_limited_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "COMMAND_TIMEOUT_S", 0.2)
    note = tmp_path / "number"
    with pytest.raises(UpdaterError, match="timed out"):
        AgentSlots._run_command("1.0", ["/bin/sh", "-c", f"echo $$ > {note}; sleep 600"], tmp_path)
    assert not note.exists() or ends(int(note.read_text()))


def test_children_inherit_a_minimal_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert AgentSlots._run_command("1.0", ["/bin/sh", "-c", SECRET], tmp_path) == "well"
    assert after_confirmation._run_failsafe(["/bin/sh", "-c", SECRET]) == "well"
