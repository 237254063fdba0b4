"""Tests that commands and options in the documents exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ncen_updater.agent.cli import main as agent
from ncen_updater.common.cli.lazy import LazyGroup, make_global_options
from ncen_updater.publisher.cli import main as publisher

ROOT = Path(__file__).parents[1]
PROGRAMS: dict[str, click.Command] = {"ncen-updater": agent.cli, "ncen-publisher": publisher.cli}
PAGES = sorted(
    page for kind in ("tutorials", "how-to") for page in (ROOT / "docs").glob(f"**/{kind}/*.md")
)
#: A program and its words, up to what a shell takes for itself or the end of what is typed.
TYPED = re.compile(
    r"(?:^ *|`|sudo |&& |/bin/)(ncen-(?:updater|publisher)) ([a-z][^`\n|;&#()]*)", re.MULTILINE
)


def find_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each program that is typed in a document, with its words."""
    code = re.findall(
        r"(?ms)^ *```sh\n.*?^ *```|^ {4,}\S[^\n]*|`[^`\n]+`", text.replace("\\\n", " ")
    )
    for typed in TYPED.finditer("\n".join(code)):
        yield typed[1], typed[2].split()


def find_unknown(program: str, words: list[str]) -> list[str]:
    """Return the words of a command line that the program does not know."""
    command = PROGRAMS[program]
    rest = list(words)
    while isinstance(command, LazyGroup):
        if not rest:
            return []
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            return rest[:1]
        command = found
        del rest[0]
    known = {name for option in (*command.params, *make_global_options()) for name in option.opts}
    options = [word.partition("=")[0] for word in rest if word.startswith("--")]
    return sorted(set(options) - known - {"--help"})


def test_mistyped_commands_are_found() -> None:
    text = (
        "Run `ncen-updater gone`:\n\n    sudo ncen-publisher sign x --no\n    ncen-updater status\n"
    )
    found = [find_unknown(*command) for command in find_commands(text)]
    assert sorted(found) == [[], ["--no"], ["gone"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_documented_commands_exist(page: Path) -> None:
    commands = list(find_commands(page.read_text("utf-8")))
    unknown = {
        " ".join([program, *words]): find_unknown(program, words) for program, words in commands
    }
    assert {line: words for line, words in unknown.items() if words} == {}
