"""Tests of help texts: groups, examples that can be typed, exit codes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest

from ncen_updater.agent.cli import main as agent
from ncen_updater.common.cli.lazy import LazyGroup
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.i18n import translate
from ncen_updater.common.messages import ExitCode
from ncen_updater.publisher.cli import main as publisher

PROGRAMS = {"ncen-updater": agent, "ncen-publisher": publisher}
ROWS = [
    (program, name, line)
    for program, module in PROGRAMS.items()
    if module.cli.command_help is not None
    for name, lines in module.cli.command_help.examples.items()
    for line in lines
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_in_one_group_and_has_an_example(program: str) -> None:
    module = PROGRAMS[program]
    guide = module.cli.command_help
    assert guide is not None
    grouped = [name for names in guide.groups.values() for name in names]
    assert sorted(grouped) == sorted(module.COMMANDS)
    assert guide.examples.keys() == module.COMMANDS.keys()
    assert guide.exit_codes.keys() <= module.COMMANDS.keys()


@pytest.mark.parametrize(("program", "name", "line"), ROWS, ids=[row[2] for row in ROWS])
def test_every_example_is_a_valid_command(
    program: str, name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    assert words[0] == name
    monkeypatch.chdir(tmp_path)
    for word in words:  # what has to be there: directories, unless their name is a file's
        place = tmp_path / word
        if not word.startswith(("-", "/")) and ":" not in word:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch() if place.suffix else place.mkdir(exist_ok=True)
    for directory in ("3.3.0", "3.2.4", "release-3.3.0", "agent-0.2.0"):
        if (tmp_path / directory).is_file():
            (tmp_path / directory).unlink()
            (tmp_path / directory).mkdir()
    group: click.Command = PROGRAMS[program].cli
    context = click.Context(group, info_name=program, obj=CliSession(program))
    while isinstance(group, LazyGroup):
        found = group.get_command(context, words.pop(0))
        assert found is not None
        group, context = found, click.Context(found, context, info_name=found.name)
    group.make_context(str(group.name), words, parent=context.parent)


def test_every_exit_code_of_the_agent_has_a_meaning() -> None:
    guide = agent.cli.command_help
    assert guide is not None
    assert set(guide.list_exit_codes(None)) == set(ExitCode)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("Examples:", "Exit codes:")),
        ("fr", ("Exemples\N{NO-BREAK SPACE}:", "Codes de sortie\N{NO-BREAK SPACE}:")),
    ],
)
def test_help_shows_groups_examples_and_exit_codes(
    program: str, language: str, words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "rollback" if program == "ncen-updater" else "lint"
    assert PROGRAMS[program].run(["--lang", language, name, "--help"]) == 0
    said = capsys.readouterr().out
    assert words[0] in said and f"  {program} {name}" in said
    assert PROGRAMS[program].run(["--lang", language, "--help"]) == 0
    whole = capsys.readouterr().out
    assert words[1] in whole and "  0 " in whole
    headings = [line for line in whole.splitlines() if line.endswith(":") and line[0] != " "]
    assert len(headings) > 4 and all(line.endswith(words[0][8:]) for line in headings)


#: A command line without a command, and what follows the program's name in the usage.
WITHOUT_COMMAND = [
    ("ncen-updater", "--lang fr", ""),
    ("ncen-updater", "--config x --quiet --lang=fr", ""),
    ("ncen-publisher", "--lang fr", ""),
    ("ncen-publisher", "--lang fr keys", " keys"),
    ("ncen-publisher", "fleet --lang fr", " fleet"),
]


@pytest.mark.parametrize(("program", "line", "group"), WITHOUT_COMMAND)
def test_options_without_a_command_show_the_help(
    program: str, line: str, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: "Il manque la commande", and the advice to type --help."""
    assert PROGRAMS[program].run(line.split()) == ExitCode.USAGE
    output, shown = capsys.readouterr()
    assert (output, "NU-1101" in shown) == ("", False)
    assert shown.startswith(f"Utilisation : {program}{group} [OPTIONS] COMMANDE")


@pytest.mark.parametrize(("program", "line", "group"), WITHOUT_COMMAND)
def test_missing_command_is_an_error_in_json(
    program: str, line: str, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: the whole help of a group as the detail of the error."""
    assert PROGRAMS[program].run(["--json", *line.split()]) == ExitCode.USAGE
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["detail"]) == ("NU-1101", "Il manque la commande.")
    assert error["remedy"].endswith(f"{program}{group} --help")


@pytest.mark.parametrize(
    "line", [row[2] for row in ROWS if any(" " in word for word in shlex.split(row[2]))]
)
def test_texts_in_examples_are_translated(line: str) -> None:
    """Seen: --reason "end of the year" in the French help."""
    shown = translate(line, "fr")
    assert not {word for word in shlex.split(line) if " " in word} & set(shlex.split(shown))
    assert [word for word in shlex.split(line) if word.startswith("--")] == [
        word for word in shlex.split(shown) if word.startswith("--")
    ]
