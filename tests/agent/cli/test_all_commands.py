"""Tests of every command of both programs: help in both languages, one JSON document per error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest

from ncen_updater.agent.cli import main as agent
from ncen_updater.agent.cli import main as agent_main
from ncen_updater.common.i18n import translate
from ncen_updater.publisher.cli import main as publisher
from ncen_updater.publisher.cli import main as publisher_main
from tests.support.french import foreign

#: Text of click only, which French help must not contain.
ENGLISH = ("Usage:", "Options:\n  -h", "Commands:", "Show this", "[required]", "[default", "unless")
#: Commands that act on the whole machine or work without a configuration.
ELSEWHERE = {"doctor", "serve", "support-bundle"}

Run = Callable[[Sequence[str]], int]


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, (*path, name))


PROGRAMS: dict[str, tuple[click.Command, Run]] = {
    "ncen-updater": (agent_main.cli, agent_main.run),
    "ncen-publisher": (publisher_main.cli, publisher_main.run),
}
EVERY = [(program, path) for program, (cli, _) in PROGRAMS.items() for path in walk(cli)]
NAMES = [" ".join((program, *path)) for program, path in EVERY]
every = pytest.mark.parametrize(("program", "path"), EVERY, ids=NAMES)


def command_of(program: str, path: Sequence[str]) -> click.Command:
    found = PROGRAMS[program][0]
    for name in path:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None
        found = inner
    return found


@every
def test_help_exists_in_both_languages(
    program: str, path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run = PROGRAMS[program][1]
    said = {}
    for language in ("en", "fr"):
        assert run(["--lang", language, *path, "--help"]) == 0
        said[language] = capsys.readouterr().out
    assert not [word for word in ENGLISH if word in said["fr"]]
    assert (
        foreign(
            said["fr"],
            *agent.COMMANDS,
            *publisher.COMMANDS,
            "ncen keys new show add fleet confirm forget board",
        )
        == []
    )
    command = command_of(program, path)
    flat = "".join(said["fr"].split())
    options = [o for o in command.params if isinstance(o, click.Option) and not o.hidden]
    for text in [
        command.help,
        *(option.help for option in options),
    ]:
        assert text, "a command or an option without a word"
        french = translate(text, "fr")
        assert french != text
        # Lines break at hyphens; nothing else may differ.
        assert "".join(french.split()) in flat, french


@every
def test_command_line_mistake_is_one_json_document(
    program: str, path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([*path, "--json", "--nonsense"], ["--json", *path, "--nonsense"]):
        assert PROGRAMS[program][1](words) == 2
        out, err = capsys.readouterr()
        error = json.loads(out)["error"]
        assert error["code"] == "NU-1101"
        assert all(error[part] for part in ("title", "state", "remedy"))
        assert err == ""


@pytest.mark.parametrize("name", sorted(set(agent.COMMANDS) - ELSEWHERE))
def test_missing_configuration_is_a_json_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = command_of("ncen-updater", [name])
    words = [name, "--json", "--config", str(tmp_path / "none.toml")]
    words += {
        "schedule": ["--cancel"],
        "import": ["a.ncen-bundle"],
    }.get(name, [])
    for parameter in command.params:
        if parameter.required:
            words += [*parameter.opts[:1]] if isinstance(parameter, click.Option) else []
            words += ["1.0"]
    code = agent_main.run(words)
    out, _ = capsys.readouterr()
    error = json.loads(out)["error"]
    # `setup` makes the configuration, and asks for what it cannot find out.
    assert (code, error["code"]) == ((2, "NU-1203") if name == "setup" else (1, "NU-1011"))
