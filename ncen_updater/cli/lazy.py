"""Click groups that import a command when it is run, and options that every command takes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ncen_updater.cli.session import Session
from ncen_updater.i18n import N_, translate

__all__ = ["Command", "LazyGroup", "global_options", "session_of"]


def session_of(context: click.Context) -> Session:
    """Return the session of a run."""
    session = context.find_object(Session)
    assert session is not None, "the program gives the session to click"  # noqa: S101
    return session


def _set(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401
    # Not given here: what was given before the command's name stays.
    if value is None or value is False or parameter.name is None:
        return
    setattr(session_of(context), parameter.name, value)


class _Option(click.Option):
    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or self.help is None:
            return record
        said = translate(self.help, session_of(ctx).language)
        return record[0], record[1].replace(self.help, said)


def option(*declarations: str, **settings: Any) -> _Option:  # noqa: ANN401
    """Return an option that goes to the session and whose help is translated."""
    return _Option(list(declarations), expose_value=False, callback=_set, **settings)


def global_options(*, config: bool = True) -> list[click.Parameter]:
    """Return the options that may stand before or after a command's name.

    Args:
        config: Whether the program has a configuration file.
    """
    options: list[click.Parameter] = []
    if config:
        options.append(
            option(
                "--config", type=click.Path(path_type=Path), metavar="PATH",
                help=N_("The configuration file."),
            )
        )  # fmt: skip
    return [
        *options,
        option("--json", "as_json", is_flag=True, help=N_("Write one JSON document to stdout.")),
        option(
            "--lang", "language", type=click.Choice(["en", "fr"]),
            help=N_("Language of what is said."),
        ),
        option("--quiet", is_flag=True, help=N_("Leave out the progress.")),
        option("--verbose", is_flag=True, help=N_("Show the log, and traces of mistakes.")),
    ]  # fmt: skip


class Command(click.Command):
    """A command with the global options and a translated help."""

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **settings)
        self.params += global_options()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the text in the language of the run."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(translate(self.help or "", session_of(ctx).language))


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run.

    Args:
        lazy: Name of a command to the module whose ``command`` it is, and its short help.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        lazy: Mapping[str, tuple[str, str]],
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which an operator meets them."""
        del ctx
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in self._lazy:
            return None
        found = getattr(
            importlib.import_module(self._lazy[cmd_name][0]), cmd_name.replace("-", "_")
        )
        assert isinstance(found, click.Command), cmd_name  # noqa: S101
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing one."""
        language = session_of(ctx).language
        rows: Sequence[tuple[str, str]] = [
            (name, translate(words, language)) for name, (_, words) in self._lazy.items()
        ]
        with formatter.section(translate(N_("Commands"), language)):
            formatter.write_dl(rows)
