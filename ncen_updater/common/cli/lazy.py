"""Click groups that import a command only when it runs, and options that all commands have."""

from __future__ import annotations

import difflib
import importlib
import keyword
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import click

from ncen_updater.common.cli.characters import protect_spacing
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import translate_metavars
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, list_languages, match_language, translate
from ncen_updater.common.messages import UNKNOWN_COMMAND, ExitCode

#: Minimum similarity of an option that is suggested for a mistyped one.
NAME_SIMILARITY = 0.7
#: The same for a command: swapped letters are similar enough, "pause" and "prune" are not.
COMMAND_SIMILARITY = 0.75


def get_session(context: click.Context) -> CliSession:
    """Return the session of this run."""
    session = context.find_object(CliSession)
    assert session is not None, "the program gives the session to click"  # noqa: S101
    return session


def _store_option(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401
    # Not given after the command's name: keep the value given before it.
    if value is None or value is False or parameter.name is None:
        return
    setattr(get_session(context), parameter.name, value)


class IntegerRange(click.IntRange):
    """An integer between two bounds, shown as "integer" instead of click's "integer range"."""

    name = "integer"


class _LanguageChoice(click.Choice[str]):
    """A language with a catalogue; ``fr_CA`` and ``fr-CA`` select French."""

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        return match_language(str(value)) or super().convert(value, param, ctx)


def make_session_option(*declarations: str, **settings: Any) -> click.Option:  # noqa: ANN401
    """Return an option whose value is stored in the session."""
    return click.Option(list(declarations), expose_value=False, callback=_store_option, **settings)


def make_language_option() -> click.Option:
    """Return the option for the language of the output."""
    return make_session_option(
        "--lang",
        "language",
        type=_LanguageChoice(list_languages()),
        help=N_("Language of the output"),
    )


def make_global_options(*, config: bool = True) -> list[click.Parameter]:
    """Return the options that may be given before or after a command's name.

    Args:
        config: Whether the program has a configuration file.
    """
    options: list[click.Parameter] = []
    if config:
        options.append(
            make_session_option(
                "--config", type=click.Path(path_type=Path, readable=False), metavar="PATH",
                help=N_("Configuration file"),
            )
        )  # fmt: skip
    return [
        *options,
        make_session_option("--json", "as_json", is_flag=True, help=N_("Print the result as JSON")),
        make_language_option(),
        make_session_option(
            "--text",
            "with_text_lines",
            is_flag=True,
            help=N_("With --json: include the text output as 'lines'"),
        ),
        *(
            [
                make_session_option(
                    "--local", "local_only", is_flag=True, help=N_("Run without the service")
                )
            ]
            if config
            else []
        ),
        make_session_option("--quiet", is_flag=True, help=N_("Hide progress")),
        make_session_option("--verbose", is_flag=True, help=N_("Show the log and error traces")),
    ]


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    session = get_session(context)
    session.add_line(f"{session.program} {version('ncen-updater')}")
    session.write_output({"program": session.program, "version": version("ncen-updater")})
    context.exit()


def make_version_option() -> click.Option:
    """Return the option that shows the version; allowed only before a command's name."""
    return click.Option(
        ["--version"], is_flag=True, expose_value=False, callback=_show_version,
        help=N_("Show the version"),
    )  # fmt: skip


def _open_section(
    formatter: click.HelpFormatter, heading: str, language: str
) -> AbstractContextManager[None]:
    """Return a section of a help; click itself writes the colon, without a French space."""
    template = protect_spacing(translate(N_("{name}: {text}"), language)).partition(":")[0]
    return formatter.section(template.format(name=translate(heading, language)))


class TranslatedCommand(click.Command):
    """A command whose help is in the language of the run, including click's own texts."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the usage line."""
        prefix = translate(N_("Usage:"), get_session(ctx).language)
        pieces = translate_metavars(
            " ".join(self.collect_usage_pieces(ctx)), get_session(ctx).language
        )
        formatter.write_usage(ctx.command_path, pieces, prefix=f"{prefix} ")

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description of the command."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(translate(self.help or "", get_session(ctx).language))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of options."""
        language = get_session(ctx).language
        rows = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                help_text = getattr(parameter, "help", None) or ""
                text = record[1].replace(help_text, translate(help_text, language))
                required = translate(N_("required"), language)
                rows.append(
                    (
                        translate_metavars(record[0], language),
                        text.replace("[required]", f"[{required}]"),
                    )
                )
        with _open_section(formatter, N_("Options"), language):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and exit codes of the command, if the program defines them."""
        parent = ctx.parent.command if ctx.parent else None
        command: click.Command = self
        guide = command.command_help if isinstance(command, LazyGroup) else None
        name: str | None = None
        if guide is None and isinstance(parent, LazyGroup):
            guide, name = parent.command_help, ctx.info_name
        if guide is None:
            return
        session = get_session(ctx)
        examples = guide.examples.get(name, {}) if name else {}
        if examples:
            with _open_section(formatter, N_("Examples"), session.language):
                for line, explanation in examples.items():
                    typed = f"{session.program} {translate(line, session.language)}"
                    formatter.write(f"{'':{formatter.current_indent}}{typed}\n")
                    with formatter.indentation():
                        formatter.write_text(
                            translate(explanation, session.language) if explanation else ""
                        )
        codes = guide.list_exit_codes(name)
        if codes:
            with _open_section(formatter, N_("Exit codes"), session.language):
                formatter.write_dl(
                    [
                        (str(int(code)), translate(value, session.language))
                        for code, value in codes.items()
                    ]
                )

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return click's help option with our text."""
        found = super().get_help_option(ctx)
        if found is not None:
            found.help = N_("Show this help")
        return found


class CliCommand(TranslatedCommand):
    """A command with the global options."""

    has_config: ClassVar[bool] = True

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **settings)
        self.params += make_global_options(config=self.has_config)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; suggest only an option that is similar enough to an unknown one."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            # click's own suggestions are too loose for short names, such as '--json' for '--to'.
            close = difflib.get_close_matches(
                error.option_name, error.possibilities or (), cutoff=NAME_SIMILARITY
            )
            raise click.NoSuchOption(error.option_name, possibilities=close, ctx=ctx) from error
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # the parser sets no context
            raise


class PublisherCommand(CliCommand):
    """A command of the publisher, which has no configuration file."""

    has_config = False


def define_command(
    kind: type[click.Command], text: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Define a command with the name of its function, which gets the session first.

    Args:
        kind: Class of the command.
        text: Its help; by default that of the table of commands.
    """

    def define(function: Callable[..., Any]) -> click.Command:
        name = function.__name__.strip("_").replace("_", "-")
        run = click.make_pass_decorator(CliSession)(function)
        return click.command(name, cls=kind, help=text)(run)

    return define


def make_command_table(
    package: str, help_texts: Mapping[str, str | tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Return the command table of a group, in the order of its help.

    Args:
        package: Package of the command modules.
        help_texts: Short help by command name; as a tuple, the module's name first if it differs
            from the command's.
    """
    return {
        name: (f"{package}.{name.replace('-', '_')}", value)
        if isinstance(value, str)
        else (f"{package}.{value[0]}", value[1])
        for name, value in help_texts.items()
    }


class LazyGroup(TranslatedCommand, click.Group):
    """A group whose commands are imported when they run.

    Args:
        lazy: The result of :func:`make_command_table`.
        aliases: Hidden names and their commands.
        synonyms: Words by command, separated by spaces, for which the command is suggested.
        command_help: Groups of its commands, examples and exit codes.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        lazy: Mapping[str, tuple[str, str]],
        aliases: Mapping[str, str] | None = None,
        synonyms: Mapping[str, str] | None = None,
        command_help: CommandHelp | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **settings)
        self.no_args_is_help = False
        self._lazy = lazy
        self._aliases = aliases or {}
        self._synonyms = {
            word: command for command, words in (synonyms or {}).items() for word in words.split()
        }
        self.command_help = command_help

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the help."""
        del ctx
        return list(self._lazy)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the given command; show the help if there is none."""
        if not ctx._protected_args and not get_session(ctx).as_json:
            raise click.exceptions.NoArgsIsHelpError(ctx)
        return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; suggest a similar one if the name is unknown."""
        args = [*(self._aliases.get(name, name) for name in args[:1]), *args[1:]]
        name = args[0] if args else ""
        if name not in self._lazy and not name.startswith("-"):
            # Synonyms first: "undo" is spelled like "unhold" but means another command.
            close = [self._synonyms[name]] if name in self._synonyms else []
            close = close or difflib.get_close_matches(
                name, [*self._lazy, *self._aliases], n=1, cutoff=COMMAND_SIMILARITY
            )
            if close:
                raise UpdaterError(
                    UNKNOWN_COMMAND,
                    name=name,
                    close=self._aliases.get(close[0], close[0]),
                    command=ctx.command_path,
                )
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; without a help of its own it gets the short one of the table."""
        del ctx
        if cmd_name not in self._lazy:
            return None
        name = cmd_name.replace("-", "_")
        if keyword.iskeyword(name):
            name += "_"
        found = getattr(importlib.import_module(self._lazy[cmd_name][0]), name)
        assert isinstance(found, click.Command), cmd_name  # noqa: S101
        found.help = found.help or self._lazy[cmd_name][1]
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists of options and commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        language = get_session(ctx).language
        values = {name: translate(words, language) for name, (_, words) in self._lazy.items()}
        groups = self.command_help.groups if self.command_help else {N_("Commands"): tuple(values)}
        widest = max(map(len, values))
        for heading, names in groups.items():
            with _open_section(formatter, heading, language):
                # Use one column width for all groups.
                formatter.write_dl([(name.ljust(widest), values[name]) for name in names])


#: Short meanings of the exit codes.
EXIT_CODE_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: N_("success, or nothing to do"),
    ExitCode.ERROR: N_("error"),
    ExitCode.USAGE: N_("usage error, or no terminal for a prompt"),
    ExitCode.BLOCKED: N_("blocked by a preflight check, or release not available for this site"),
    ExitCode.APPROVAL_MISSING: N_("approval missing or declined"),
    ExitCode.OUTSIDE_WINDOW_OR_HELD: N_("upgrades on hold, or maintenance window closed"),
    ExitCode.TRUST: N_("verification failed"),
    ExitCode.NETWORK: N_("network error"),
    ExitCode.SPACE: N_("not enough disk space"),
    ExitCode.BUSY: N_("another operation is in progress"),
    ExitCode.ROLLED_BACK: N_("change failed and was reverted or rolled back"),
    ExitCode.INTERVENTION_NEEDED: N_(
        "manual intervention required, or verification found differences"
    ),
    ExitCode.REHEARSAL_STALE: N_("rehearsal missing or outdated"),
    ExitCode.FEED_STALE: N_("metadata expired or about to expire"),
}


#: Exit codes of every command.
COMMON_EXIT_CODES = (0, 1, 2)


@dataclass(frozen=True)
class CommandHelp:
    """Contents of a program's help.

    Attributes:
        groups: Command names by heading; each command once.
        examples: Example lines by command, without the program's name, with their explanations;
            empty for a line that needs none.
        meanings: Meanings of the exit codes.
        exit_codes: Exit codes by command, besides 0, 1 and 2.
    """

    groups: Mapping[str, tuple[str, ...]]
    examples: Mapping[str, Mapping[str, str]]
    meanings: Mapping[ExitCode, str]
    exit_codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def list_exit_codes(self, command: str | None) -> Mapping[ExitCode, str]:
        """Return the exit codes of a command, or of the whole program for None."""
        if command is None:
            return self.meanings
        if command not in self.exit_codes:
            return {}
        codes = sorted({*COMMON_EXIT_CODES, *self.exit_codes[command]})
        return {ExitCode(code): self.meanings[ExitCode(code)] for code in codes}
