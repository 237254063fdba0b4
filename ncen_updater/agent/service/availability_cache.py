"""Cache of whether users can work, for the service: queried by itself or by a unit with the rights.

The unit of the service has no network and no access to systemd; its worker has. Many clients may
ask at once and repeatedly: at most one probe runs, all of them get its result, and probes leave
most of the time to other work. A probe that no client waits for any more runs to its end: on a slow
machine a second one beside it would only add load, until the socket accepts no work at all. An
answer from before the
maintenance page was turned on or off is never used afterwards, however little time has passed.
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

#: So long what was heard is told again: who mended something and asks at once hears the new.
CACHE_S = 1.0
#: Longer where a look takes long: so many times as long as it took, up to a limit.
CACHE_FACTOR, MAX_CACHE_S = 2.0, 15.0
#: So long somebody waits for a look.
WAIT_TIMEOUT_S = 10.0
#: So long one may take: a machine that is busy with all it has starts no process in less.
PROBE_LIMITS = WorkerLimits(silence_timeout_s=60.0, total_timeout_s=60.0)


class AvailabilityCache:
    """Asks, and tells what it heard to everybody who wants to know at about that time.

    Args:
        probe: Asks once.
        monotonic: The clock.
        timeout_s: So long is an answer waited for.
        read_cache_key: What tells that an answer is outdated, at little cost: another mark,
            another site.
    """

    def __init__(
        self,
        probe: Callable[[], Availability],
        monotonic: Callable[[], float] = time.monotonic,
        timeout_s: float = WAIT_TIMEOUT_S,
        read_cache_key: Callable[[], object] = lambda: None,
    ) -> None:
        self._look, self._clock, self._patience_s = probe, monotonic, timeout_s
        self._mark = read_cache_key
        self._changed = threading.Condition()
        self._looking, self._ended = False, 0
        self._heard: Availability | None = None
        self._heard_at: object = None
        self._until = 0.0

    def __call__(self) -> Availability:
        """Return what was heard last, or what is heard now; unknown if that takes too long."""
        mark = self._mark()
        with self._changed:
            if self._heard is not None and self._heard_at == mark and self._clock() <= self._until:
                return self._heard
            until = time.monotonic() + self._patience_s
            heard = self._wait_for_probe(until)
            if heard is not None and self._heard_at != mark:
                heard = self._wait_for_probe(
                    until
                )  # that look was begun before; the next one was not
            if heard is not None:
                return heard
        why = make_late_text(self._patience_s)
        return Availability(AvailabilityState.UNKNOWN, unknown_because=why)

    def _wait_for_probe(self, until: float) -> Availability | None:
        """Wait for the end of the look that is under way, or of one that begins now."""
        ended = self._ended
        if not self._looking:
            self._looking = True
            threading.Thread(target=self._run_probe, name="availability", daemon=True).start()
        left = max(0.0, until - time.monotonic())
        return self._heard if self._changed.wait_for(lambda: self._ended > ended, left) else None

    def _run_probe(self) -> None:
        began, mark = self._clock(), self._mark()
        try:
            answer = self._look()
        except Exception:  # those who wait must not wait for nothing
            logger.exception("cannot determine whether users can work")
            why = LazyText(N_("unexpected error; run: journalctl -u ncen-updater"))
            answer = Availability(AvailabilityState.UNKNOWN, unknown_because=why)
        with self._changed:
            now = self._clock()
            self._heard, self._heard_at, self._looking = answer, mark, False
            self._until = now + min(max(CACHE_S, CACHE_FACTOR * (now - began)), MAX_CACHE_S)
            self._ended += 1
            self._changed.notify_all()


def create_availability_cache(config_path: Path, config: AgentConfig) -> AvailabilityCache:
    """Return who asks, as the configuration has the work done.

    Args:
        config_path: The configuration file.
        config: What it says.
    """
    look = partial(probe_availability, load_essential_settings(config_path))
    if config.service.runner == "systemd":
        socket = config.paths.resolve(config.service.apply_socket)
        look = partial(_probe_through_worker, config_path.absolute(), socket)
    maintenance_file = config.paths.resolve(config.application.maintenance_file)
    return AvailabilityCache(
        look, read_cache_key=partial(_read_maintenance_mtime, maintenance_file)
    )


def _read_maintenance_mtime(maintenance_file: Path) -> int | None:
    """Return since when the maintenance page is on; None where it is off, or cannot be seen."""
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
