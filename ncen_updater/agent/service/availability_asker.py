"""Whether officers can work, for the service: asked by itself, or by who may ask for it.

The unit of the service has no network and does not see systemd; what works on the site for it does.
Many may want to know at once: one asks, and the others hear the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ncen_updater.agent.availability import look_at
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.service.runner import MODULE
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.workers import Worker, WorkerFailed, WorkerLimits, ask

__all__ = ["AvailabilityAsker", "availability_asker"]

#: So long what was heard is told again: who mended something and asks at once hears the new.
KEEP_S = 1.0
LIMITS = WorkerLimits(silence_s=10.0, total_s=10.0)


class AvailabilityAsker:
    """Asks, and tells what it heard to everybody who wants to know at about that time.

    Args:
        look: Asks once.
        monotonic: The clock.
    """

    def __init__(
        self, look: Callable[[], Availability], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._look, self._clock = look, monotonic
        self._lock = threading.Lock()
        self._heard: tuple[float, Availability] | None = None

    def __call__(self) -> Availability:
        """Return what was heard last, or ask."""
        with self._lock:
            if self._heard is None or self._clock() - self._heard[0] > KEEP_S:
                answer = self._look()  # first: who waited for a slow one hears it, too
                self._heard = self._clock(), answer
            return self._heard[1]


def availability_asker(config_path: Path, config: AgentConfig) -> AvailabilityAsker:
    """Return who asks, as the configuration has the work done.

    Args:
        config_path: The configuration file.
        config: What it says.
    """
    if config.service.runner == "systemd":
        socket = config.paths.resolve(config.service.apply_socket)
        return AvailabilityAsker(partial(_by_unit, config_path.absolute(), socket))
    return AvailabilityAsker(partial(look_at, load_places(config_path)))


def _by_unit(config_path: Path, socket: Path) -> Availability:
    worker = Worker(MODULE, (str(config_path), "availability"), socket, LIMITS)
    try:
        return Availability.from_json(ask(worker, {"words": ["availability"]}).get("document"))
    except (WorkerFailed, UpdaterError, ValueError) as error:
        return Availability(AvailabilityState.UNKNOWN, why=str(error))
