"""A part of the application, as an adapter controls it. What is asked for health is one, too."""

from __future__ import annotations

import abc

from ncen_updater.agent.policy.ought_to_run import ProcessState


class ApplicationPart(abc.ABC):
    """What is started and stopped together.

    Args:
        name: For people; empty for the one that is asked for its health.
        start_after_maintenance: Whether it is started only once officers are in.
        what: What the system calls it; for the log.
    """

    def __init__(
        self, name: str = "", *, start_after_maintenance: bool = False, what: str = ""
    ) -> None:
        self.name, self.what = name, what or name or "the application"
        self.start_after_maintenance = start_after_maintenance

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Whether any process of it runs.

        Raises:
            STATE_UNKNOWN: If that cannot be told.
        """

    def is_at_rest(self) -> bool:
        """Whether none runs, and none is about to by an order that was given."""
        return not self.is_running()

    def is_stable(self, *, since_last_check: bool = False) -> bool:
        """Whether it runs, and has done so without an end since it was started or looked at first.

        Args:
            since_last_check: Since the last look will do.
        """
        return self.is_running()

    def observe_state(self) -> ProcessState:
        """Look once, with what the system knows of why it does not run."""
        return ProcessState(self.is_running())

    @abc.abstractmethod
    def request_stop(self, timeout_s: float) -> str:
        """Order the stop; return what went wrong with the order, empty if nothing did."""

    @abc.abstractmethod
    def request_start(self, timeout_s: float) -> None:
        """Order the start.

        Raises:
            CommandError: If the order failed.
        """
