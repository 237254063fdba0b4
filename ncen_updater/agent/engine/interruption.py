"""Signals that ask for an end: obeyed where going back is free, remembered where it is not."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import INTERRUPTED

__all__ = ["Interruption"]


class Interruption:
    """Turns SIGINT, SIGTERM and SIGHUP into :class:`Interrupted` inside :meth:`allowed` blocks.

    Outside of such a block a signal is remembered, and raised when the next one begins.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._allowed = False
        self._asked: str | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Take over the signals while the block runs (main thread only)."""
        before = {number: signal.signal(number, self._on_signal) for number in self.SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let a signal raise while the block runs."""
        if self._asked:
            asked, self._asked = self._asked, None
            raise UpdaterError(INTERRUPTED, signal=asked)
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    @property
    def asked(self) -> str | None:
        """The signal that waits to be obeyed, if any."""
        return self._asked

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._allowed:
            # Once is enough: what is undone from here on must not be interrupted again.
            self._allowed = False
            raise UpdaterError(INTERRUPTED, signal=name)
        self._asked = name
