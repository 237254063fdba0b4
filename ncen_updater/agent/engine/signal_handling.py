"""Termination signals: obeyed at once where a revert is free, deferred elsewhere."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import INTERRUPTED


class SignalHandler:
    """Handler that turns SIGINT, SIGTERM and SIGHUP into an exception.

    Outside of an :meth:`allow_interruption` block a signal is deferred; the next block raises it.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._allowed = False
        self._deferred: str | None = None
        self._raised: str | None = None

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Install the handlers while the block runs (main thread only)."""
        before = {number: signal.signal(number, self._on_signal) for number in self.SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def allow_interruption(self) -> Iterator[None]:
        """Let a signal raise an exception while the block runs.

        An exception raised inside a library may leave it as an error of that library, or be
        swallowed. So every error of a block after its interruption is reported as the interruption.
        If the exception was swallowed, the next block raises it.
        """
        if self._deferred:
            deferred, self._deferred = self._deferred, None
            raise UpdaterError(INTERRUPTED, signal=deferred)
        self._allowed, self._raised = True, None
        try:
            yield
        except Exception as error:
            if self._raised is None or _is_interruption(error):
                raise
            raise UpdaterError(INTERRUPTED, signal=self._raised) from error
        else:
            self._defer_swallowed_signal()
        finally:
            self._allowed = False

    def _defer_swallowed_signal(self) -> None:
        if self._raised is not None:
            self._deferred = self._raised

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._allowed:
            # Raise only once: the revert that follows must not be interrupted again.
            self._allowed, self._raised = False, name
            raise UpdaterError(INTERRUPTED, signal=name)
        self._deferred = name


def _is_interruption(error: Exception) -> bool:
    return isinstance(error, UpdaterError) and error.message is INTERRUPTED
