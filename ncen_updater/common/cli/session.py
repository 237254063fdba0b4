"""What one run of a command line knows: its options, where it writes, and how it asks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ncen_updater.common.cli.characters import bears_isolates, clean, escaped, fitted, folded, shown
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.disk_space import disk_full
from ncen_updater.common.documents import jsonable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Text, right_to_left
from ncen_updater.common.messages import DECLINED, NEEDS_YES
from ncen_updater.common.progress import ASKER

if TYPE_CHECKING:
    from ncen_updater.common.cli.terminal import Heartbeat
    from ncen_updater.common.journald import Masking

DEFAULT_CONFIG = Path("/etc/ncen-updater/agent.toml")


def silence(stream: TextIO) -> None:
    """Let a stream that takes nothing lead nowhere: Python flushes it at its end, and complains."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _in_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().startswith("utf")


@dataclass
class Session:
    """Options that every command has, and the two streams.

    Attributes:
        program: Name of the program, for advice.
        config: The configuration file.
        as_json: Whether stdout is one JSON document.
        language: As :func:`~ncen_updater.common.i18n.languages` names it.
        quiet: Whether progress is left out.
        verbose: Whether the log and traces are shown.
        words: Whether a JSON document holds the lines for people, too.
        alone: Whether the service is left out.
        folds: Whether lines of data are broken to the width of a terminal.
        lost: Why stdout did not take the data, where it did not.
        masking: Takes secrets out of the log, where there is one for systemd's journal.
        beside: What a JSON document has beside an error.
    """

    program: str
    config: Path = DEFAULT_CONFIG
    as_json: bool = False
    language: str = DEFAULT_LANGUAGE
    quiet: bool = False
    verbose: bool = False
    words: bool = False
    alone: bool = False
    folds: bool = False
    lost: OSError | None = None
    masking: Masking | None = None
    beside: Mapping[str, object] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)

    def text(self, template: str, **values: object) -> str:
        """Return a sentence in the language of this run."""
        return Text(template, values).render(self.language)

    def contact(self, error: UpdaterError) -> str | None:
        """Whom to ask about an error, where somebody said so and the error needs somebody."""
        del error
        return None

    def show(self, line: str | Text = "") -> None:
        """Keep one line of data for people; shown at :meth:`finish`, and not at all as JSON."""
        self._lines.append(line.render(self.language) if isinstance(line, Text) else line)

    def finish(self, document: Mapping[str, object]) -> None:
        """Write the data: the document, or the lines that were kept."""
        lines, self._lines = self._lines, []
        if self.as_json:
            whole = {**document, "words": lines} if self.words else document
            self.write_document(jsonable(whole, self.language), indent=2)
        elif lines:
            self.write("\n".join(self._fitting(lines)))

    def _fitting(self, lines: list[str]) -> list[str]:
        """Lines of data as wide as the terminal that they are shown on, as errors are."""
        if not self.folds or not sys.stdout.isatty():
            return lines
        columns, turned = shutil.get_terminal_size().columns, right_to_left(self.language)
        whole = [part for line in lines for part in clean(line, isolates=turned).split("\n")]
        return [part for line in whole for part in folded(line, columns)]

    def write_document(self, document: object, indent: int | None = None) -> None:
        """Write JSON to stdout; characters that act and are not seen stand there by number."""
        written = json.dumps(document, indent=indent, ensure_ascii=not _in_unicode(sys.stdout))
        self._write(escaped(written))

    def write(self, data: str) -> None:
        """Write lines for people to stdout, whatever stands in their values."""
        self._write(self.lines(data, sys.stdout))

    def _write(self, data: str) -> None:
        """A reader who has gone away does not change what the command came to."""
        try:
            click.echo(data)
        except BrokenPipeError:
            silence(sys.stdout)
        except OSError as error:
            self.lost = error
            silence(sys.stdout)

    def say(self, line: str | Text, *, painted: bool = False) -> None:
        """Write one line for people to stderr, now.

        Args:
            line: The line, or several.
            painted: Whether it was cleaned already, part by part, and holds colours of ours.
        """
        text = line.render(self.language) if isinstance(line, Text) else line
        try:
            click.echo(self.lines(text, sys.stderr, painted=painted), err=True)
        except OSError:  # nobody reads it, or its disk is full; the exit code still tells
            silence(sys.stderr)

    def lines(self, text: str, stream: TextIO, *, painted: bool = False) -> str:
        """Return lines for people as a stream can show them.

        Args:
            text: One line, or several.
            stream: Where they go.
            painted: As for :meth:`say`.
        """
        kind = os.environ.get("TERM") if stream.isatty() else None
        seen = shown(
            text, painted=painted, turned=right_to_left(self.language),
            plain=not bears_isolates(stream.encoding or "utf-8", kind),
        )  # fmt: skip
        return fitted(seen, stream.encoding or "utf-8")

    def agree(self, question: Text, *, yes: bool) -> None:
        """Ask before something is changed.

        Args:
            question: One that is answered with yes or no.
            yes: Whether it was answered beforehand.

        Raises:
            NeedsYes: If nobody can be asked.
            Declined: If the answer is no.
        """
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            words = question.render(self.language)
            raise UpdaterError(NEEDS_YES, state=NOTHING_CHANGED, detail=words)
        lines, self._lines = self._lines, []
        for line in lines:  # what is asked about has to be read first
            self.say(line)
        asked = self.text(N_("{question} Type yes to agree"), question=question)
        answer = click.prompt(
            self.lines(asked, sys.stderr),
            default=self.text(N_("no")),
            err=True,
        )
        yes_word, no_word = self.text(N_("yes")).lower(), self.text(N_("no")).lower()
        agreed = {"yes", "y", yes_word}
        if yes_word[:1] != no_word[:1]:  # "o" of "oui", as "y" of "yes"
            agreed.add(yes_word[:1])
        if str(answer).strip().lower() not in agreed:
            raise UpdaterError(DECLINED, state=NOTHING_CHANGED)

    def explain(self, error: Exception) -> UpdaterError | None:
        """Return what is told in place of an error, where more is known than it says itself."""
        return None if isinstance(error, UpdaterError) else disk_full(error)

    def progress(self) -> Heartbeat:
        """Return the listener of this run, a context manager."""
        from ncen_updater.common.cli.terminal import make_progress

        return make_progress(
            quiet=self.quiet, language=self.language, relay=next(iter(ASKER), None)
        )
