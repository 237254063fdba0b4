"""Output of the demonstration: narration, command lines and their output, on one stream."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from typing import TextIO

from ncen_updater.common.cli.characters import protect_spacing, strip_control_characters
from ncen_updater.common.cli.progress_display import ProgressDisplay
from ncen_updater.common.cli.render import colorize, supports_color
from ncen_updater.common.i18n import N_, LazyText, translate

WIDTH = 92
LABEL = re.compile(r"[^:]{3,20}:\s+|\s{12,}")


class Narrator:
    """Writes formatted text to a terminal, and plain text to anything else.

    Args:
        stream: Output stream.
        language: Language of the texts.
    """

    def __init__(self, stream: TextIO, language: str) -> None:
        self.stream = stream
        self.language = language
        self.rich = supports_color(stream)
        self._acts = 0

    def act(self, title: str) -> None:
        """Begin an act."""
        self._acts += 1
        line = f"{self._acts}. {translate(title, self.language)}"
        self._write("\n" + colorize(line, "bold", rich=self.rich))
        self._write(colorize("-" * len(line), "dim", rich=self.rich))

    def say(self, template: str, **values: object) -> None:
        """Write one paragraph."""
        self._write(
            textwrap.fill(protect_spacing(LazyText(template, values).render(self.language)), WIDTH)
        )

    def command(self, words: Sequence[str]) -> None:
        """Show a command line as it would be typed."""
        line = shlex.join(words)
        shown = textwrap.wrap(
            line, WIDTH - 4, break_long_words=False, break_on_hyphens=False,
            subsequent_indent="      ",
        )  # fmt: skip
        self._write("")
        self._write(colorize("  $ " + " \\\n".join(shown), "bold", rich=self.rich))

    def output(self, text: str, limit: int | None = None) -> None:
        """Show the output of a command.

        Args:
            text: Its output.
            limit: Maximum number of lines.
        """
        lines = strip_control_characters(text).rstrip().splitlines()
        left = len(lines) - limit if limit is not None else 0
        for line in lines[:limit]:
            self._wrap(line)
        if left > 0:
            more = LazyText(N_("[... and {count} more lines]"), {"count": left})
            self._write(f"    {more.render(self.language)}")

    def good(self, template: str, **values: object) -> None:
        """Report a kept promise."""
        self._mark("ok", "green", template, values)

    def bad(self, template: str, **values: object) -> None:
        """Report a broken promise."""
        self._mark("FAILED", "red", template, values)

    def lines(self, lines: Sequence[str]) -> None:
        """Write lines unchanged."""
        for line in lines:
            self._write(line)

    def working(self) -> ProgressDisplay:
        """Return a progress listener: a redrawn line on a terminal, plain lines elsewhere."""
        return ProgressDisplay(self.stream, rich=self.rich, language=self.language)

    def _wrap(self, line: str) -> None:
        if len(line.split()) < 2:
            self._write(f"    {line}")
            return
        # Align continuation lines after the label of an error.
        label = LABEL.match(line)
        indent = " " * (4 + (label.end() if label else len(line) - len(line.lstrip()) + 2))
        wrapped = textwrap.wrap(
            protect_spacing(line), WIDTH, initial_indent="    ", subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
        )  # fmt: skip
        self.lines(wrapped or [""])

    def _mark(self, mark: str, colour: str, template: str, values: dict[str, object]) -> None:
        text = LazyText(template, values).render(self.language)
        first, *more = textwrap.wrap(protect_spacing(text), WIDTH - 10) or [""]
        self._write(f"  {colorize(f'[{mark}]', colour, rich=self.rich)} {first}")
        for line in more:
            self._write(f"       {line}")

    def _write(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.stream.flush()
