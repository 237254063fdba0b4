"""docs/publisher.md names every command and option of the publisher."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from ncen_updater.common.cli.lazy import make_global_options
from ncen_updater.publisher.cli.main import cli
from tests.publisher.described import PARTS, RULES, section

OURS = {option.opts[0] for option in make_global_options()}


def walk(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(walk(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_have_one_value(name: str) -> None:
    values = [option.name for option in COMMANDS[name].params]
    assert sorted(set(values)) == sorted(values)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_described(name: str) -> None:
    part, command = section(name), COMMANDS[name]
    ours = {p.opts[0] for p in command.params if isinstance(p, click.Option)} - OURS
    written = set(re.findall(r"`(--[a-z0-9-]+)", part))
    general = set(re.findall(r"`(--[a-z0-9-]+)", RULES))
    assert ours - written <= general, "options that nobody describes"
    assert written <= ours, "options that are not there"
    heading = part.partition("\n")[0].removeprefix(name).split()
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    assert [word.rstrip(".") for word in heading] == [
        argument.make_metavar(click.Context(command)).strip("[].").removesuffix("]...")
        for argument in arguments
    ]


def test_no_command_is_invented() -> None:
    assert len(PARTS) == len(COMMANDS)
