"""The file with all answers that the package brings as an example."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.agent.setup.answers import load_answers

EXAMPLE = Path(__file__).parents[3] / "packaging/examples/setup.toml"


def test_example_is_read_with_every_comment_taken_away(tmp_path: Path) -> None:
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
