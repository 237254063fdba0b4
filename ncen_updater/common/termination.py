"""A signal that tells a program to end, on its way out of whatever it is doing."""

from __future__ import annotations

import signal
from types import FrameType


class TerminationRequested(BaseException):
    """A signal, on its way out of a command.

    It is no error yet: what takes an error for a finding, and goes on, would take the signal, too.

    Attributes:
        signal: Its name.
    """

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


class TerminationHandler:
    """Raises :class:`TerminationRequested` where the program is, and remembers it.

    What is raised in the middle of a library, in one that is imported just then above all, may not
    come out of it. So who takes the signals over asks whether one came before.

    Attributes:
        told: The last signal that came.
    """

    def __init__(self) -> None:
        self.received_signal: signal.Signals | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Be the handler."""
        self.received_signal = signal.Signals(number)
        raise TerminationRequested(self.received_signal.name)
