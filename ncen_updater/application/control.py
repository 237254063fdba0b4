"""What both adapters share: the door, the health, the environment, and waiting for the stop."""

from __future__ import annotations

import abc
import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ncen_updater.application.base import Application, Expectation, Health
from ncen_updater.application.door import Door, DoorNote
from ncen_updater.application.errors import CommandFailed, StopFailed
from ncen_updater.application.health import HealthProber
from ncen_updater.application.process import Ended, minimal_environment, run
from ncen_updater.config.model import ApplicationSettings

__all__ = ["ControlledApplication"]

logger = logging.getLogger(__name__)

POLL_S = 0.05


class ControlledApplication(Application):
    """An application that is controlled by commands.

    Args:
        settings: The table ``[application]``.
        current: The link to the slot in use; commands find it as ``NCEN_CURRENT``.
        door_note: Asked why the door is closed, each time it is closed.
        environment: What the commands inherit; the least of our own by default.
        clock: Monotonic seconds.
        wait: Waits so many seconds.
    """

    def __init__(
        self,
        settings: ApplicationSettings,
        current: Path,
        *,
        door_note: Callable[[], DoorNote] = DoorNote,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._settings = settings
        self._door = Door(settings.door_file, door_note)
        self._prober = HealthProber(settings)
        self._clock = clock
        self._wait = wait
        self._environment = {
            **(minimal_environment() if environment is None else environment),
            **settings.environment,
            "NCEN_CURRENT": str(current),
            "NCEN_DOOR_FILE": str(settings.door_file),
        }

    @abc.abstractmethod
    def _order_stop(self, timeout_s: float) -> str:
        """Order the stop; return what went wrong with the order, empty if nothing did."""

    @abc.abstractmethod
    def _order_start(self, timeout_s: float) -> None:
        """Order the start."""

    def stop(self) -> None:
        """Stop it; returns when no process of it remains."""
        timeout = self._settings.stop_timeout_s
        deadline = self._clock() + timeout
        if not self.running():
            return
        logger.info("stopping the application")
        problem = self._order_stop(timeout)
        while self.running():
            if problem or self._clock() >= deadline:
                raise StopFailed(seconds=f"{timeout:g}", detail=problem or None)
            self._wait(POLL_S)
        if problem:
            logger.warning("the application stopped, but its command said: %s", problem)

    def start(self) -> None:
        """Start what ``current`` points at, unless it runs."""
        if self.running():
            return
        logger.info("starting the application")
        self._order_start(self._settings.health_timeout_s)

    def close_door(self) -> None:
        """Keep officers out and show them the maintenance page."""
        self._door.close()

    def open_door(self) -> None:
        """Let officers in."""
        self._door.open()

    def door_closed(self) -> bool:
        """Whether officers are kept out."""
        return self._door.closed()

    def health(self, expectation: Expectation) -> Health:
        """Look once."""
        return self._prober.look(expectation)

    def _run(self, action: str, argv: Sequence[str], timeout_s: float) -> Ended:
        try:
            return run(argv, self._environment, timeout_s)
        except OSError as error:
            raise CommandFailed(
                action=action,
                reason="it could not be started",
                command=shlex.join(argv),
                detail=str(error),
            ) from error


def ending(ended: Ended, timeout_s: float) -> str:
    """Say in plain words how a command ended."""
    if ended.status is None:
        return f"it did not end within {timeout_s:g} seconds and was killed"
    if ended.status < 0:
        return f"it was ended by signal {-ended.status}"
    return f"it ended with status {ended.status}"
