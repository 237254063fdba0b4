"""Tests of the answers file that the package brings as an example."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.setup.answers import load_answers

EXAMPLE = Path(__file__).parents[3] / "packaging/examples/setup.toml"


def test_example_is_valid_without_its_comments(tmp_path: Path) -> None:
    assert load_answers(EXAMPLE).site.country == "KE"
    text = "\n".join(
        line.removeprefix("# ") if " = " in line or line.startswith("# [") else line
        for line in EXAMPLE.read_text("utf-8").splitlines()
    )
    whole = tmp_path / "setup.toml"
    whole.write_text(text, "utf-8")
    answers = load_answers(whole)
    assert answers.databases.owner == "ncen"
    assert answers.application["unit"] == "ncen.service"
    assert answers.feed.offline


def test_missing_file_is_named_with_its_option_and_example(tmp_path: Path) -> None:
    """Seen: "copy agent.toml to setup.toml"."""
    with pytest.raises(ConfigError) as caught:
        load_answers(tmp_path / "setup.toml")
    remedy = caught.value.remedy_text.render()
    assert "--answers" in remedy and f"/examples/setup.toml {tmp_path}" in remedy
