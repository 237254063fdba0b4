"""Tests of the events that wake the service."""

from __future__ import annotations

import contextlib
import signal

from ncen_updater.agent.service.serve import WakeupPipe
from ncen_updater.common.cli.program import TerminationHandler


class Clock:
    """A wall clock that is set once the sleeper has looked at it."""

    def __init__(self, jump_s: float) -> None:
        self.jump_s, self.looks = jump_s, 0

    def __call__(self) -> float:
        import time

        self.looks += 1
        return time.time() + (self.jump_s if self.looks > 1 else 0.0)


def sleeper(clock: Clock) -> WakeupPipe:
    return WakeupPipe(lambda: None, lambda: 0, max_sleep_s=0.01, wall=clock)


def test_clock_change_wakes_the_service() -> None:
    for jump_s in (3600.0, -3600.0):
        waker = sleeper(Clock(jump_s))
        waker.sleep(86_400.0)  # would outlast the limit of every test
        waker.close()


def test_steady_clock_does_not_wake_the_service() -> None:
    clock = Clock(0.0)
    waker = sleeper(clock)
    waker.sleep(0.05)
    waker.close()
    assert clock.looks > 2


def test_signal_and_message_wake_the_service() -> None:
    waker = sleeper(Clock(0.0))
    waker.wake()
    waker.sleep(86_400.0)
    with waker.handle_signals():
        signal.raise_signal(signal.SIGHUP)
        waker.sleep(86_400.0)
        assert waker.consume_reload()
        assert not waker.is_stopping
    waker.close()


def test_termination_swallowed_during_startup_is_honoured() -> None:
    """A library that was imported just then took what was raised in it for its own affair."""
    before = signal.signal(signal.SIGTERM, TerminationHandler())
    try:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        waker = sleeper(Clock(0.0))
        with waker.handle_signals():
            assert waker.is_stopping
            waker.sleep(86_400.0)  # would outlast the limit of every test
        waker.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_message_between_check_and_sleep_wakes_the_service() -> None:
    written = [1]
    waker = WakeupPipe(lambda: None, lambda: written[0], max_sleep_s=0.01)
    looked = waker.read_journal_mtime()
    written[0] = 2
    waker.sleep(86_400.0, looked)  # would outlast the limit of every test
    waker.close()
