"""Tests that commands, options and settings in the documents exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from ncen_updater.agent.cli.main import cli as agent
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.loader import iter_settings
from ncen_updater.publisher.cli.main import cli as publisher
from tests.support.prose import find_pages

ROOT = Path(__file__).parents[1]
PAGES = [page for place in ("docs", "docs/fr") for page in find_pages(ROOT / place)]
PROGRAMS: dict[str, click.Group] = {"ncen-updater": agent, "ncen-publisher": publisher}
CALL = re.compile(r"\b(ncen-(?:updater|publisher)) (?:--lang \w\w )?([a-z][a-z-]*)( [^|&;\n#]+)?")
SETTINGS = set(iter_settings(AgentConfig))


def find_code(text: str) -> str:
    """Return what is code in a document, a piece a line."""
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"(?m)^ {4,}(.+)$", text)])


def find_command(program: str, words: list[str]) -> click.Command | None:
    """Return the command that a line calls; None where there is no such."""
    command: click.Command | None = PROGRAMS[program]
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    return command


def find_unknown_commands(text: str) -> Iterator[str]:
    """Yield commands and options of a document that the programs do not have."""
    for program, name, rest in CALL.findall(find_code(text)):
        command = find_command(program, [name, *rest.split()])
        known = {option for item in command.params for option in item.opts} if command else set()
        if command is None or set(re.findall(r"--[a-z-]+", rest)) - known - {"--help"}:
            yield f"{program} {name}{rest}"


def find_tables(text: str) -> Iterator[dict[str, Any]]:
    """Yield the pieces of agent.toml that a document shows; other files have other tables."""
    for block in re.findall(r"(?:^ {4}.*\n|^\n)+", text, re.MULTILINE):
        try:
            table = tomllib.loads(re.sub(r"(?m)^ {4}", "", block))
        except tomllib.TOMLDecodeError:
            continue
        if any(("", name) in SETTINGS for name in table):
            yield table


def find_unknown_settings(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield settings of a table that agent.toml does not take."""
    for name, value in table.items():
        if (prefix, name) not in SETTINGS:
            yield f"{prefix}.{name}" if prefix else name
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from find_unknown_settings(inner, f"{prefix}.{name}" if prefix else name)


def test_unknown_commands_and_settings_are_found() -> None:
    text = "`ncen-updater plan --sql` `ncen-updater chek`\n\n    ncen-publisher lint --none x\n"
    assert list(find_unknown_commands(text)) == [
        "ncen-updater chek",
        "ncen-publisher lint --none x",
    ]
    [table] = find_tables("words\n\n    [service]\n    mode = 1\n    none = 2\n\nwords\n")
    assert list(find_unknown_settings(table)) == ["service.none"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_commands_of_a_page_exist(page: Path) -> None:
    assert list(find_unknown_commands(page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent.name == "how-to"],
    ids=lambda page: str(page.relative_to(ROOT / "docs")),
)
def test_settings_of_a_guide_exist(page: Path) -> None:
    unknown = [
        name
        for table in find_tables(page.read_text("utf-8"))
        for name in find_unknown_settings(table)
    ]
    assert unknown == []
