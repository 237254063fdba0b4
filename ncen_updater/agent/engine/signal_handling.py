"""Termination signals: obeyed where a revert costs nothing, remembered where it does."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import INTERRUPTED


class SignalHandler:
    """Turns SIGINT, SIGTERM and SIGHUP into an exception.

    Outside of an :meth:`allow_interruption` block a signal is remembered; the next block raises it.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._allowed = False
        self._asked: str | None = None
        self._raised: str | None = None

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Take over the signals while the block runs (main thread only)."""
        before = {number: signal.signal(number, self._on_signal) for number in self.SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def allow_interruption(self) -> Iterator[None]:
        """Let a signal raise while the block runs.

        What is raised in the middle of a library may come out of it as an error of that library, or
        not at all. Whatever a block fails with once it was interrupted, the interruption is why;
        where nothing of it came out, the next block hears of it.
        """
        if self._asked:
            asked, self._asked = self._asked, None
            raise UpdaterError(INTERRUPTED, signal=asked)
        self._allowed, self._raised = True, None
        try:
            yield
        except Exception as error:
            if self._raised is None or _is_interruption(error):
                raise
            raise UpdaterError(INTERRUPTED, signal=self._raised) from error
        else:
            self._install_handlers()
        finally:
            self._allowed = False

    def _install_handlers(self) -> None:
        if self._raised is not None:
            self._asked = self._raised

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._allowed:
            # Once is enough: what is undone from here on must not be interrupted again.
            self._allowed, self._raised = False, name
            raise UpdaterError(INTERRUPTED, signal=name)
        self._asked = name


def _is_interruption(error: Exception) -> bool:
    return isinstance(error, UpdaterError) and error.message is INTERRUPTED
