"""Tests of the agent that is selected after the system's package installed one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.self_update.packaged_agent import main, select_packaged_agent
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    FailedAgent,
    TrialState,
)

BAD = {"0.3.0": FailedAgent(1, datetime(2026, 1, 1, tzinfo=UTC))}
GOOD = AgentSelection("0.1.0", None, TrialState.CONFIRMED, 0, BAD)


@pytest.mark.parametrize(
    ("before", "version", "present", "after"),
    [
        pytest.param(None, "0.1.0", False, AgentSelection("0.1.0"), id="the first"),
        pytest.param(GOOD, "0.1.0", True, GOOD, id="the same again"),
        pytest.param(
            GOOD,
            "0.2.0",
            True,
            AgentSelection("0.2.0", "0.1.0", TrialState.ON_TRIAL, 0, BAD),
            id="a newer one is tried",
        ),
        pytest.param(
            GOOD,
            "0.2.0",
            False,
            AgentSelection("0.2.0", None, TrialState.CONFIRMED, 0, BAD),
            id="the old one went",
        ),
        pytest.param(
            AgentSelection("0.10.0"),
            "0.9.0",
            True,
            AgentSelection("0.10.0"),
            id="it renewed itself further",
        ),
        pytest.param(
            AgentSelection("0.10.0"),
            "0.9.0",
            False,
            AgentSelection("0.9.0"),
            id="further, and it is lost",
        ),
        pytest.param(
            GOOD,
            "0.3.0",
            True,
            AgentSelection("0.3.0", "0.1.0", TrialState.ON_TRIAL, 0, {}),
            id="a person wants the one that was given up",
        ),
    ],
)
def test_packaged_agent_is_selected(
    before: AgentSelection | None, version: str, present: bool, after: AgentSelection
) -> None:
    assert select_packaged_agent(before, version, slot_exists=present) == after


def test_selection_file_and_link_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/ncen-updater").touch()
        monkeypatch.setattr("sys.argv", ["packaged", str(tmp_path), version])
        assert main() == 0
        assert (tmp_path / "current").resolve() == tmp_path / version
    assert AgentSelectionFile(tmp_path).load() == AgentSelection(
        "0.2.0", "0.1.0", TrialState.ON_TRIAL
    )


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"current": "../bin"}'])
def test_lost_selection_continues_from_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/ncen-updater").touch()
    (tmp_path / "current").symlink_to("0.1.0")
    if content is not None:
        (tmp_path / "sequence.json").write_bytes(content)
    monkeypatch.setattr("sys.argv", ["packaged", str(tmp_path), "0.2.0"])
    assert main() == 0
    assert AgentSelectionFile(tmp_path).load() == AgentSelection(
        "0.2.0", "0.1.0", TrialState.ON_TRIAL
    )
    damaged = tmp_path / "sequence.json.damaged"
    assert (damaged.read_bytes() if damaged.exists() else None) == content


def test_unwritable_disk_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sequence.json").write_bytes(b"{")
    (tmp_path / "sequence.json.damaged").mkdir()
    monkeypatch.setattr("sys.argv", ["packaged", str(tmp_path), "0.2.0"])
    assert main() == 1
    assert "NU-9401" in capsys.readouterr().err
    assert (tmp_path / "sequence.json").read_bytes() == b"{"
