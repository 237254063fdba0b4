"""Session of one run of a command line: options, output and prompts."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ncen_updater.common.cli.characters import (
    escape_json,
    format_for_stream,
    protect_spacing,
    strip_control_characters,
    wrap_data_line,
)
from ncen_updater.common.cli.render import highlight, supports_color
from ncen_updater.common.disk_space import find_disk_full_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText, is_right_to_left
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.messages import CONFIRMATION_DECLINED, CONFIRMATION_NEEDED
from ncen_updater.common.progress import CALLER_PROGRESS

if TYPE_CHECKING:
    from ncen_updater.common.cli.progress_display import ProgressDisplay
    from ncen_updater.common.journald import SecretFilter

DEFAULT_CONFIG = Path("/etc/ncen-updater/agent.toml")


def discard_stream(stream: TextIO) -> None:
    """Redirect a broken stream to /dev/null: Python would fail to flush it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().startswith("utf")


@dataclass
class CliSession:
    """Options that all commands have, and their output.

    Attributes:
        program: Name of the program.
        config: Path of the configuration file.
        as_json: Whether stdout is one JSON document.
        language: One of :func:`~ncen_updater.common.i18n.list_languages`.
        quiet: Whether to hide progress.
        verbose: Whether to show the log and tracebacks.
        with_text_lines: Whether a JSON document includes the text output.
        local_only: Whether to run without the service.
        wraps_lines: Whether to wrap lines of data to the width of the terminal.
        output_error: The error of writing to stdout, if it failed.
        secret_filter: Masks secrets in the log, if it goes to systemd's journal.
        error_members: Further members of the JSON document of an error.
    """

    program: str
    config: Path = DEFAULT_CONFIG
    as_json: bool = False
    language: str = DEFAULT_LANGUAGE
    quiet: bool = False
    verbose: bool = False
    with_text_lines: bool = False
    local_only: bool = False
    wraps_lines: bool = False
    output_error: OSError | None = None
    secret_filter: SecretFilter | None = None
    error_members: Mapping[str, object] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)
    _shown_progress: dict[str, float] = field(default_factory=dict)

    def translate(self, template: str, **values: object) -> str:
        """Return a sentence in the language of this run."""
        return LazyText(template, values).render(self.language)

    def get_contact(self, error: UpdaterError) -> str | None:
        """Return whom to ask about an error, if configured and needed; here None."""
        del error
        return None

    def add_line(self, line: str | LazyText = "") -> None:
        """Add a line of text output.

        It is shown by :meth:`write_output`, but not as JSON.
        """
        self._lines.append(line.render(self.language) if isinstance(line, LazyText) else line)

    def write_output(self, document: Mapping[str, object]) -> None:
        """Write the result: the JSON document, or the added lines."""
        lines, self._lines = self._lines, []
        if self.as_json:
            whole = {**document, "lines": lines} if self.with_text_lines else document
            self.write_document(to_json_value(whole, self.language), indent=2)
        elif lines:
            self.write_text("\n".join(self._wrap_lines(lines)))

    def _wrap_lines(self, lines: list[str]) -> list[str]:
        """Wrap lines of data to the width of the terminal, like errors."""
        if not self.wraps_lines or not sys.stdout.isatty():
            return lines
        columns, right_to_left = shutil.get_terminal_size().columns, is_right_to_left(self.language)
        whole = [
            part
            for line in lines
            for part in strip_control_characters(line, keep_isolates=right_to_left).split("\n")
        ]
        return [part for line in whole for part in wrap_data_line(line, columns)]

    def write_document(self, document: object, indent: int | None = None) -> None:
        """Write JSON to stdout, with invisible control characters escaped."""
        written = json.dumps(document, indent=indent, ensure_ascii=not _is_utf8(sys.stdout))
        self._write_stdout(escape_json(written))

    def write_text(self, data: str) -> None:
        """Write text to stdout, made safe for the terminal."""
        shown = self._format(data, sys.stdout)
        self._write_stdout(highlight(shown, self.language) if supports_color(sys.stdout) else shown)

    def _write_stdout(self, data: str) -> None:
        """Write to stdout; a closed pipe does not change the result of the command."""
        try:
            click.echo(data)
        except BrokenPipeError:
            discard_stream(sys.stdout)
        except OSError as error:
            self.output_error = error
            discard_stream(sys.stdout)

    def print_message(self, line: str | LazyText, *, is_clean: bool = False) -> None:
        """Write text to stderr at once.

        Args:
            line: One or several lines.
            is_clean: Whether control characters have been removed already, and the text contains
                our colour codes.
        """
        text = line.render(self.language) if isinstance(line, LazyText) else line
        try:
            click.echo(self._format(text, sys.stderr, is_clean=is_clean), err=True)
        # nobody reads it, or its disk is full; the exit code still shows the result
        except OSError:
            discard_stream(sys.stderr)

    def _format(self, text: str, stream: TextIO, *, is_clean: bool = False) -> str:
        right_to_left = is_right_to_left(self.language)
        return format_for_stream(text, stream, is_clean=is_clean, right_to_left=right_to_left)

    def prompt(self, question: str, **settings: Any) -> Any:  # noqa: ANN401 - as click.prompt
        """Ask at the terminal; the colon behind the question is that of the language.

        Args:
            question: The question, in the language of the run.
            settings: Further arguments of ``click.prompt``.
        """
        colon = protect_spacing(self.translate(N_("{name}: {text}"), name="", text=""))
        shown = self._format(question, sys.stderr)
        return click.prompt(shown, err=True, prompt_suffix=colon, **settings)

    def ask_confirmation(self, question: LazyText, *, assume_yes: bool) -> None:
        """Ask for confirmation before a change.

        Args:
            question: A yes-or-no question.
            assume_yes: Whether it was confirmed by an option.

        Raises:
            CONFIRMATION_NEEDED: If there is no terminal to ask on.
            CONFIRMATION_DECLINED: If the answer is no.
        """
        if assume_yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UpdaterError(CONFIRMATION_NEEDED, detail=question.render(self.language))
        lines, self._lines = self._lines, []
        for line in lines:  # the operator must read these lines before answering
            self.print_message(line)
        asked = self.translate(N_("{question} Type yes to confirm"), question=question)
        answer = self.prompt(asked, default=self.translate(N_("no")))
        yes_word, no_word = self.translate(N_("yes")).lower(), self.translate(N_("no")).lower()
        agreed = {"yes", "y", yes_word}
        if yes_word[:1] != no_word[:1]:  # "o" for "oui", as "y" for "yes"
            agreed.add(yes_word[:1])
        if str(answer).strip().lower() not in agreed:
            raise UpdaterError(CONFIRMATION_DECLINED)

    def clarify_error(self, error: Exception) -> UpdaterError | None:
        """Return a clearer error than the given one, if there is one; else None."""
        return None if isinstance(error, UpdaterError) else find_disk_full_error(error)

    def make_progress(self) -> ProgressDisplay:
        """Return the progress display of this run, a context manager."""
        from ncen_updater.common.cli.progress_display import ProgressDisplay, SilentDisplay

        if self.quiet:
            return SilentDisplay(next(iter(CALLER_PROGRESS), None))
        rich = supports_color(sys.stderr)
        return ProgressDisplay(
            sys.stderr, rich=rich, language=self.language, shown=self._shown_progress
        )
