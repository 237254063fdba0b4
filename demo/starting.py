"""Delay of a termination signal until a process that was just started is registered."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: What asks for the end.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold signals that end us back until the block has ended.

    A handler that raises would otherwise strike between the start of a process and the name that
    it is given here, and the process would outlive its parent. They are not blocked:
    what is started would inherit that.
    """
    if threading.current_thread() is not threading.main_thread():  # no handler strikes there
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
