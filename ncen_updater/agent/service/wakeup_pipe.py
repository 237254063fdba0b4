"""Waiting that signals, orders and a changed journal end at once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from ncen_updater.common.cli.program import TerminationHandler

MAX_SLEEP_S = 20.0
#: So far may wall clock and monotonic clock drift apart in one sleep before it counts as a jump.
CLOCK_JUMP_S = 5.0


class WakeupPipe:
    """The service's sleep, and what ends it.

    Args:
        send_heartbeat: Called before each slice of sleep: a sign of life for the watchdog.
        read_mtime: When the journal was last written; a change ends the sleep.
        max_sleep_s: Longest time without a look, seconds.
        wall: The wall clock, seconds.
    """

    def __init__(
        self,
        send_heartbeat: Callable[[], None],
        read_mtime: Callable[[], int],
        max_sleep_s: float = MAX_SLEEP_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._alive, self._changed_at, self._slice = send_heartbeat, read_mtime, max_sleep_s
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = self._reload = False

    @property
    def is_stopping(self) -> bool:
        """Whether the service is to end."""
        return self._stop

    def stop(self) -> None:
        """Ask the service to end."""
        self._stop = True
        self.wake()

    def wake(self) -> None:
        """End a sleep; safe in a signal handler and from any thread."""
        # A full pipe has woken the sleeper already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"x")

    def consume_reload(self) -> bool:
        """Whether the configuration is to be read again; asked once."""
        asked, self._reload = self._reload, False
        return asked

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT for an end, SIGHUP for reading the configuration again.

        A SIGTERM of before that did not come through is one, too.
        """

        def on_signal(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP:
                self._reload = True
            else:
                self._stop = True
            self.wake()

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in numbers}
        earlier = before[signal.SIGTERM]
        if isinstance(earlier, TerminationHandler) and earlier.received_signal is signal.SIGTERM:
            self.stop()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def read_journal_mtime(self) -> int:
        """Return what :meth:`sleep` compares the journal with; taken before the site is looked at.

        Else what another process writes between the look and the sleep would be slept through.
        """
        return self._changed_at()

    def sleep(self, seconds: float, seen_mtime: int | None = None) -> None:
        """Sleep until the time has passed, somebody wakes us, or the journal changes.

        So does a wall clock that was set, or that went on while the machine slept: what is waited
        for may have come. It is noticed within a slice.

        Args:
            seconds: How long at most.
            seen_mtime: The mark of what was looked at; the journal as it is now by default.
        """
        began = time.monotonic()
        until, apart = began + seconds, self._wall() - began
        seen = self._changed_at() if seen_mtime is None else seen_mtime
        while not (self._stop or self._reload):
            self._alive()
            now = time.monotonic()
            left, jumped = until - now, abs(self._wall() - now - apart) > CLOCK_JUMP_S
            if left <= 0 or jumped or self._changed_at() != seen:
                return
            if select.select([self._reader], [], [], min(left, self._slice))[0]:
                self._drain()
                return

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reader)
        os.close(self._writer)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
