"""Progress on stderr, with a heartbeat from its own thread.

On a terminal one line is redrawn; elsewhere, and with ``NO_COLOR``, every text is a plain line.
Without new progress, a line with the last text and the elapsed time is shown at least every two
seconds on a terminal, every ten seconds elsewhere.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from ncen_updater.common.cli.characters import (
    format_for_stream,
    strip_control_characters,
    truncate_text,
)
from ncen_updater.common.cli.render import (
    colorize,
    format_amount,
    format_duration,
)
from ncen_updater.common.i18n import LazyText, is_right_to_left
from ncen_updater.common.progress import (
    REVERTING,
    REVERTING_ROLLBACK,
    Amount,
    ProgressListener,
)

RICH_INTERVAL_S = 1.0
PLAIN_INTERVAL_S = 10.0


class ProgressDisplay:
    """A listener that shows progress, and repeats the last text while there is none.

    Args:
        stream: Output stream; after an error it is not used again, and the work continues.
        rich: Whether to redraw one line.
        language: Language of the texts.
        monotonic: The clock.
        shown: Texts that earlier displays of the run have shown, with the times; updated.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        rich: bool,
        language: str,
        monotonic: Callable[[], float] = time.monotonic,
        shown: dict[str, float] | None = None,
    ) -> None:
        self._stream = stream
        self._rich = rich
        self._language = language
        self._right_to_left = is_right_to_left(language)
        self._interval = RICH_INTERVAL_S if rich else PLAIN_INTERVAL_S
        self._clock = monotonic
        # Re-entrant: a signal handler that raises may run between any two lines of the holder.
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._what = ""
        self._since = 0.0
        self._amount: Amount | None = None
        self._shown = {} if shown is None else shown
        self._earlier = frozenset(self._shown)
        self._dead = self._reverts = False

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Store the amount, and show a new text."""
        message = text.render(self._language)
        sentence = strip_control_characters(message, keep_isolates=self._right_to_left).replace(
            "\n", " "
        )
        now = self._clock()
        with self._lock:
            self._amount = amount
            if sentence == self._what:
                return
            before, began, self._what, self._since = self._what, self._since, sentence, now
            last = self._shown.get(sentence)
            self._shown[sentence] = now
            reverts, self._reverts = self._reverts, text.template in (REVERTING, REVERTING_ROLLBACK)
            if self._rich:
                if before:
                    if self._reverts and not reverts:
                        before = colorize(before, "red", rich=True)  # the step that failed
                    self._write(f"\r\x1b[K{self._format_finished_line(before, now - began)}\n")
                self._draw(now)
            elif last is None or now - last >= self._interval:
                # Parallel work alternates between texts; do not repeat each one every time.
                self._write(f"{sentence}\n")

    def _format_finished_line(self, sentence: str, seconds: float) -> str:
        took = format_duration(seconds).render(self._language)
        return f"{sentence}  {colorize(took, 'dim', rich=True)}"

    def __enter__(self) -> ProgressDisplay:
        self._thread = threading.Thread(
            target=self._refresh_periodically, name="progress", daemon=True
        )
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
                line = f"{self._format_finished_line(self._what, self._clock() - self._since)}\n"
                self._write(f"\r\x1b[K{'' if self._what in self._earlier else line}")
            self._what = ""

    def _refresh_periodically(self) -> None:
        while not self._ended.wait(self._interval):
            with self._lock:
                if self._what:
                    self._draw(self._clock())

    def _draw(self, now: float) -> None:
        parts = [self._what]
        if self._amount is not None:
            parts.append(format_amount(self._amount).render(self._language))
            if total := self._amount.total:
                parts.append(f"{min(self._amount.done, total) * 100 // total} %")
        parts.append(format_duration(now - self._since).render(self._language))
        line = "  ".join(parts)
        if self._rich:
            columns = shutil.get_terminal_size().columns
            self._write(f"\r\x1b[K{truncate_text(line, columns - 1)}")
        else:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        if self._dead:
            return
        try:
            self._stream.write(
                format_for_stream(
                    text, self._stream, is_clean=True, right_to_left=self._right_to_left
                )
            )
            self._stream.flush()
        except (OSError, ValueError):  # a closed terminal must not end an upgrade
            self._dead = True


class SilentDisplay(ProgressDisplay):
    """A display that shows nothing.

    Args:
        relay: Listener that receives the progress instead, if any.
    """

    def __init__(self, relay: ProgressListener | None) -> None:
        super().__init__(sys.stderr, rich=False, language="en")
        self._relay = relay

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Forward the progress to the relay."""
        if self._relay is not None:
            self._relay.report(text, amount)


_: type[ProgressListener] = ProgressDisplay
