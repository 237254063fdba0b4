"""Progress on stderr, with a heartbeat from a thread of its own.

On a terminal one line is redrawn; elsewhere, and with ``NO_COLOR``, every sentence is a plain line.
Work that says nothing for a while is still seen to be alive: a line at least every two seconds on a
terminal, every ten elsewhere, with the time elapsed and what was told last.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from ncen_updater.common.cli.characters import bears_isolates, clean, cut, fitted, shown
from ncen_updater.common.cli.render import (
    amount,
    coloured,
    format_duration,
    is_rich,
    without_unit,
)
from ncen_updater.common.i18n import N_, Text, right_to_left
from ncen_updater.common.progress import Progress

RICH_SECONDS = 1.0
PLAIN_SECONDS = 10.0
OF = Text(N_("{done} of {total}"))


class Heartbeat:
    """A listener that shows what it is told, and that work goes on while it is told nothing.

    Args:
        stream: Where it writes; once that fails it stays silent, since work must not end by it.
        rich: Whether one line is redrawn.
        language: Of the sentences.
        interval: Seconds between two signs of life.
        monotonic: The clock.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        rich: bool,
        language: str,
        interval: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._rich = rich
        self._language = language
        self._turned = right_to_left(language)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        seen = not stream.closed and stream.isatty()  # one that was closed does not answer
        kind = os.environ.get("TERM") if seen else None
        self._plain = not bears_isolates(self._encoding, kind)
        self._interval = interval or (RICH_SECONDS if rich else PLAIN_SECONDS)
        self._clock = monotonic
        # Re-entrant: a signal handler that raises may run between any two lines of the holder.
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._what = ""
        self._told = OF
        self._since = 0.0
        self._figures: tuple[int | None, int | None] = (None, None)
        self._shown: dict[str, float] = {}
        self._dead = False

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Take note, and show a sentence that is new."""
        said = without_unit(what.render(self._language))
        sentence = clean(said, isolates=self._turned).replace("\n", " ")
        now = self._clock()
        with self._lock:
            self._figures, self._told = (done, total), what
            if sentence == self._what:
                return
            before, began, self._what, self._since = self._what, self._since, sentence, now
            last = self._shown.get(sentence)
            self._shown[sentence] = now
            if self._rich:
                if before:
                    self._write(f"\r\x1b[K{self._ended_line(before, now - began)}\n")
                self._draw(now)
            elif last is None or now - last >= self._interval:
                # Parts that work side by side and speak in turn are not said again each time.
                self._write(f"{sentence}\n")

    def past(self, what: Text, seconds: float) -> None:
        """Show a sentence of before, as it stands there once the next was told."""
        sentence = clean(without_unit(what.render(self._language))).replace("\n", " ")
        with self._lock:
            self._write(
                f"{self._ended_line(sentence, seconds)}\n" if self._rich else f"{sentence}\n"
            )

    def _ended_line(self, sentence: str, seconds: float) -> str:
        took = format_duration(seconds).render(self._language)
        return f"{sentence}  {coloured(took, 'dim', rich=True)}"

    def __enter__(self) -> Heartbeat:
        self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._rich and self._what:
                line = self._ended_line(self._what, self._clock() - self._since)
                self._write(f"\r\x1b[K{line}\n")
            self._what = ""

    def _beat(self) -> None:
        while not self._ended.wait(self._interval):
            with self._lock:
                if self._what:
                    self._draw(self._clock())

    def _draw(self, now: float) -> None:
        parts = [self._what]
        done, total = self._figures
        if done is not None and total:
            figures = {"done": amount(self._told, done), "total": amount(self._told, total)}
            of = Text(OF.template, figures)
            parts += [of.render(self._language), f"{min(done, total) * 100 // total} %"]
        elif done is not None:
            parts.append(amount(self._told, done).render(self._language))
        parts.append(format_duration(now - self._since).render(self._language))
        line = "  ".join(parts)
        if self._rich:
            columns = shutil.get_terminal_size().columns
            self._write(f"\r\x1b[K{cut(line, columns - 1)}")
        else:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        if self._dead:
            return
        try:
            seen = shown(text, painted=True, turned=self._turned, plain=self._plain)
            self._stream.write(fitted(seen, self._encoding))
            self._stream.flush()
        except (OSError, ValueError):  # a terminal that was closed must not end an upgrade
            self._dead = True


class _Quiet(Heartbeat):
    """A listener that shows nothing, where a context manager is wanted.

    Args:
        relay: Where it passes on what it is told, if anywhere.
    """

    def __init__(self, relay: Progress | None) -> None:
        super().__init__(sys.stderr, rich=False, language="en")
        self._relay = relay

    def past(self, what: Text, seconds: float) -> None:
        """Show nothing."""

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Pass it on."""
        if self._relay is not None:
            self._relay.tell(what, done, total)


def make_progress(
    *,
    quiet: bool,
    language: str,
    stream: TextIO | None = None,
    relay: Progress | None = None,
) -> Heartbeat:
    """Return the listener that fits the stream (stderr by default).

    Args:
        quiet: Whether nothing is shown.
        language: Of the sentences.
        stream: Where they are shown.
        relay: Who is told instead, where nothing is shown.
    """
    if quiet:
        return _Quiet(relay)
    stream = stream or sys.stderr
    return Heartbeat(stream, rich=is_rich(stream), language=language)


_: type[Progress] = Heartbeat
