"""A part of the application, as an adapter controls it. What is asked for health is one, too."""

from __future__ import annotations

import abc

from ncen_updater.agent.policy.ought_to_run import RunningSeen


class ApplicationPart(abc.ABC):
    """What is started and stopped together.

    Args:
        name: For people; empty for the one that is asked for its health.
        after_open: Whether it is started only once officers are in.
        what: What the system calls it; for the log.
    """

    def __init__(self, name: str = "", *, after_open: bool = False, what: str = "") -> None:
        self.name, self.what = name, what or name or "the application"
        self.after_open = after_open

    @abc.abstractmethod
    def running(self) -> bool:
        """Whether any process of it runs.

        Raises:
            StateUnknown: If that cannot be told.
        """

    def at_rest(self) -> bool:
        """Whether none runs, and none is about to by an order that was given."""
        return not self.running()

    def well(self, *, since_last: bool = False) -> bool:
        """Whether it runs, and has done so without an end since it was started or looked at first.

        Args:
            since_last: Since the last look will do.
        """
        return self.running()

    def seen(self) -> RunningSeen:
        """Look once, with what the system knows of why it does not run."""
        return RunningSeen(self.running())

    @abc.abstractmethod
    def order_stop(self, timeout_s: float) -> str:
        """Order the stop; return what went wrong with the order, empty if nothing did."""

    @abc.abstractmethod
    def order_start(self, timeout_s: float) -> None:
        """Order the start.

        Raises:
            CommandFailed: If the order failed.
        """
