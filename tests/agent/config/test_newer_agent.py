"""Tests of an older agent with a configuration for the newer one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.loader import find_newer_agent, load_config
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    FailedAgent,
)
from tests.agent.config.test_loader import GOOD, write

GIVEN_UP = {"99.0": FailedAgent(1, datetime(2026, 11, 24, tzinfo=UTC))}
NEWER = GOOD.replace('id = "ke"', 'id = "ke"\nregion = "east"') + "[sealing]\nkind = 'wax'\n"


def chosen(tmp_path: Path, sequence: AgentSelection) -> None:
    AgentSelectionFile(tmp_path / "opt/ncen-updater").update(lambda _: sequence)


@pytest.mark.parametrize(
    "sequence",
    [
        AgentSelection("0.1", failed=GIVEN_UP),
        AgentSelection("99.0", "0.1"),
        AgentSelection("0.1", "99.0"),
    ],
)
def test_settings_of_a_newer_agent_are_ignored(
    tmp_path: Path, sequence: AgentSelection, caplog: pytest.LogCaptureFixture
) -> None:
    chosen(tmp_path, sequence)
    config = load_config(write(tmp_path, NEWER))
    assert config.site.id == "ke"
    assert "site.region, sealing" in caplog.text
    assert "99.0" in caplog.text


@pytest.mark.parametrize(
    "sequence", [None, AgentSelection("0.1"), AgentSelection("0.0.1", "0.0.2")]
)
def test_misspelt_setting_is_rejected(tmp_path: Path, sequence: AgentSelection | None) -> None:
    if sequence is not None:
        chosen(tmp_path, sequence)
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, NEWER))
    assert [m.setting for m in caught.value.invalid_settings] == ["site.region", "sealing"]


def test_other_mistakes_are_still_reported(tmp_path: Path) -> None:
    chosen(tmp_path, AgentSelection("0.1", failed=GIVEN_UP))
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, NEWER.replace("port = 5433", "port = 'x'")))
    assert [m.setting for m in caught.value.invalid_settings] == ["databases.postgresql.port"]


def test_damaged_agent_record_excuses_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "opt/ncen-updater"
    directory.mkdir(parents=True)
    (directory / "sequence.json").write_text("{")
    assert find_newer_agent(directory) is None
