"""Delay of a termination signal until a process that was just started is registered."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Signals that end a process.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delay termination signals until the end of the block.

    A handler that raises could otherwise run after the start of a process and before its variable
    is assigned; the process would then outlive its parent. The signals are not blocked, because
    the new process would inherit the mask.
    """
    if threading.current_thread() is not threading.main_thread():  # without handlers
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {
        number: signal.signal(number, note)
        for number in ENDING
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
