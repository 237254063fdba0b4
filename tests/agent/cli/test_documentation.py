"""docs/cli.md names every command and option, docs/operator.md every exit code and finding."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from ncen_updater.agent.cli.guide import COMMANDS
from ncen_updater.agent.cli.main import cli
from ncen_updater.common.cli.lazy import make_global_options
from ncen_updater.common.messages import ExitCode

DOCS = Path(__file__).resolve().parents[3] / "docs"
CONTEXT = click.Context(cli)


def _sections() -> dict[str, str]:
    text = (DOCS / "cli.md").read_text("utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.split(None, 1)[0]: part for part in parts}


def _options(command: click.Command) -> set[str]:
    ours = {option.opts[0] for option in make_global_options()}
    return {
        option.opts[0]
        for option in command.params
        if isinstance(option, click.Option) and option.opts[0] not in ours
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name: str) -> None:
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    section = _sections()[name]
    for option in _options(command):
        assert f"`{option}" in section or f" {option} " in section, option
    written = set(re.findall(r"`(--[a-z-]+)", section))
    assert written <= _options(command) | {"--json"}, "an option that is not there"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_have_one_value(name: str) -> None:
    """Seen: '--language sw' of 'translations' was overwritten by '--lang en'."""
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    values = [option.name for option in command.params]
    assert sorted(set(values)) == sorted(values)


def test_options_of_every_command_are_described() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    for option in make_global_options():
        assert f"`{option.opts[0]}" in text


def test_no_command_is_invented() -> None:
    assert _sections().keys() == {"Rules", "Every", *COMMANDS}


def test_every_exit_code_is_explained() -> None:
    text = (DOCS / "cli.md").read_text("utf-8").partition("## Every exit code")[2]
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(int(c)) for c in ExitCode]


def test_every_finding_of_doctor_is_explained() -> None:
    root = DOCS.parent / "ncen_updater" / "agent" / "reports" / "diagnostics"
    source = (root / "doctor.py").read_text() + (root / "verify.py").read_text()
    text = (DOCS / "doctor.md").read_text("utf-8")
    codes = set(re.findall(r'"(NU-\d{4})"', source))
    assert codes
    assert codes <= set(re.findall(r"^\| (NU-\d{4}) \|", text, re.MULTILINE))
