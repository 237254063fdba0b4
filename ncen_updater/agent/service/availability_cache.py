"""Cache of the application's availability for the service, probed directly or through a unit.

The service's unit has no network and no access to systemd; its worker unit has both. Many clients
may query at once and repeatedly: at most one probe runs, all clients receive its result, and pauses
between probes leave most of the time to other work. A probe continues after its clients have timed
out: on a slow machine a second concurrent probe would only add load, until the socket accepts no
more connections. A result from before the maintenance page was switched on or off is never used
afterwards, even within the cache time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ncen_updater.agent.adapters.application.availability_probe import (
    make_late_text,
    probe_availability,
)
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.service.apply_runner import APPLY_WORKER_MODULE
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.workers import Worker, WorkerError, WorkerLimits, call_worker

logger = logging.getLogger(__name__)

#: Minimum cache time: a user who repairs the application soon sees the new state.
CACHE_S = 1.0
#: Cache time as a multiple of the probe's duration, and its maximum.
CACHE_FACTOR, MAX_CACHE_S = 2.0, 15.0
#: How long a client waits for a probe.
WAIT_TIMEOUT_S = 10.0
#: Time limit of a probe: a fully loaded machine cannot start a process in less.
PROBE_LIMITS = WorkerLimits(silence_timeout_s=60.0, total_timeout_s=60.0)


class AvailabilityCache:
    """Runs probes and shares each result among all clients for a short time.

    Args:
        probe: Probes the availability.
        monotonic: A monotonic clock.
        timeout_s: How long a client waits for a result.
        read_cache_key: Returns a cheap key; a result with another key is outdated.
    """

    def __init__(
        self,
        probe: Callable[[], Availability],
        monotonic: Callable[[], float] = time.monotonic,
        timeout_s: float = WAIT_TIMEOUT_S,
        read_cache_key: Callable[[], object] = lambda: None,
    ) -> None:
        self._probe, self._clock, self._timeout_s = probe, monotonic, timeout_s
        self._read_cache_key = read_cache_key
        self._changed = threading.Condition()
        self._probe_running, self._probes_ended = False, 0
        self._result: Availability | None = None
        self._result_key: object = None
        self._expires_at = 0.0

    def __call__(self) -> Availability:
        """Return the cached or a new result; "unknown" if the probe takes too long."""
        key = self._read_cache_key()
        with self._changed:
            if (
                self._result is not None
                and self._result_key == key
                and self._clock() <= self._expires_at
            ):
                return self._result
            until = time.monotonic() + self._timeout_s
            result = self._wait_for_probe(until)
            if result is not None and self._result_key != key:
                result = self._wait_for_probe(
                    until
                )  # the finished probe had started before the key changed; the next one has not
            if result is not None:
                return result
        why = make_late_text(self._timeout_s)
        return Availability(AvailabilityState.UNKNOWN, unknown_because=why)

    def _wait_for_probe(self, until: float) -> Availability | None:
        """Wait for the end of the running probe, or of a new one."""
        ended = self._probes_ended
        if not self._probe_running:
            self._probe_running = True
            threading.Thread(target=self._run_probe, name="availability", daemon=True).start()
        left = max(0.0, until - time.monotonic())
        return (
            self._result
            if self._changed.wait_for(lambda: self._probes_ended > ended, left)
            else None
        )

    def _run_probe(self) -> None:
        started, key = self._clock(), self._read_cache_key()
        try:
            result = self._probe()
        except Exception:  # clients must be woken in any case
            logger.exception("cannot determine whether users can work")
            why = LazyText(N_("unexpected error; run: journalctl -u ncen-updater"))
            result = Availability(AvailabilityState.UNKNOWN, unknown_because=why)
        with self._changed:
            now = self._clock()
            self._result, self._result_key, self._probe_running = result, key, False
            self._expires_at = now + min(max(CACHE_S, CACHE_FACTOR * (now - started)), MAX_CACHE_S)
            self._probes_ended += 1
            self._changed.notify_all()


def create_availability_cache(config_path: Path, config: AgentConfig) -> AvailabilityCache:
    """Create the cache with the probe that the configuration requires.

    Args:
        config_path: The configuration file.
        config: The configuration.
    """
    probe = partial(probe_availability, load_essential_settings(config_path))
    if config.service.runner == "systemd":
        socket = config.paths.resolve(config.service.apply_socket)
        probe = partial(_probe_through_worker, config_path.absolute(), socket)
    maintenance_file = config.paths.resolve(config.application.maintenance_file)
    return AvailabilityCache(
        probe, read_cache_key=partial(_read_maintenance_mtime, maintenance_file)
    )


def _read_maintenance_mtime(maintenance_file: Path) -> int | None:
    """Return when the maintenance page was switched on; None if it is off or unreadable."""
    try:
        return maintenance_file.lstat().st_mtime_ns
    except OSError:
        return None


def _probe_through_worker(config_path: Path, socket: Path) -> Availability:
    worker = Worker(APPLY_WORKER_MODULE, (str(config_path), "availability"), socket, PROBE_LIMITS)
    try:
        return Availability.from_json(
            call_worker(worker, {"command": ["availability"]}).get("document")
        )
    except (WorkerError, UpdaterError, ValueError) as error:
        why = error.title_text if isinstance(error, UpdaterError) else str(error)
        return Availability(AvailabilityState.UNKNOWN, unknown_because=why)
