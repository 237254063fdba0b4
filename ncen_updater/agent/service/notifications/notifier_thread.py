"""The thread beside the service's loop that tells people and writes the metrics.

It starts with the loop and ends with it. Where it fails, the loop goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.status import SiteStatus, read_mtime_ns
from ncen_updater.agent.service.availability_cache import create_availability_cache
from ncen_updater.agent.service.notifications.metrics import collect_metrics, write_metrics
from ncen_updater.agent.service.notifications.notifier import Notifier
from ncen_updater.agent.service.notifications.outbox import Outbox
from ncen_updater.agent.service.notifications.send_runner import Sender, create_sender
from ncen_updater.agent.service.snapshot import ServiceEvent

logger = logging.getLogger(__name__)

#: How often the journal's file is looked at, and the shortest time between two rounds.
POLL_INTERVAL_S, MIN_PAUSE_S = 10.0, 0.5
#: What does not end in this time at the end of the service ends with the process.
JOIN_TIMEOUT_S = 3.0


def _now() -> datetime:
    return datetime.now(UTC)


class NotifierThread:
    """Tells about one site as long as the service runs.

    Args:
        config_path: The configuration file.
        send: Sends one message; as the configuration says by default.
    """

    def __init__(self, config_path: Path, send: Sender | None = None) -> None:
        self._path, self._send = config_path, send
        self._woken = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._runs: Counter[tuple[str, int]] = Counter()
        self._looked_at: datetime | None = None
        self._agent = version("ncen-updater")

    def handle_event(self, event: ServiceEvent) -> None:
        """Hear what the service did, and begin when it says that it has; never waits."""
        self._looked_at = _now()
        if self._thread is None:
            self._start()
        if event.kind in ("done", "failed"):
            action, code = event.values.get("action"), event.values.get("exit_code")
            if isinstance(action, str) and isinstance(code, int):
                self._runs[(action, code)] += 1
        self._woken.set()

    def stop(self) -> None:
        """End; a message that is under way goes again with the next start."""
        self._ending = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT_S)

    def _start(self) -> None:
        config = load_config(self._path)
        state = config.paths.resolve(config.paths.state)
        notifier = Notifier(
            self._path,
            config,
            send=self._send or create_sender(self._path, config),
            now=_now,
            on_status=self._write_metrics,
            create_availability_reader=create_availability_cache,
        )
        self._thread = threading.Thread(
            target=self._run, args=(notifier, state / JOURNAL_FILE), name="telling", daemon=True
        )
        self._thread.start()

    def _run(self, notifier: Notifier, journal: Path) -> None:
        while not self._ending:
            self._woken.clear()
            seen = read_mtime_ns(journal)
            try:
                until = notifier.run_round()
            except Exception:
                logger.exception("telling failed, and is tried again")
                until = None
            self._sleep(journal, seen, until)

    def _sleep(self, journal: Path, seen: int, until: datetime | None) -> None:
        """Sleep until the time, a word of the service, or a change of the journal."""
        slept = 0.0
        while not self._ending:
            left = (until - _now()).total_seconds() if until else 300.0 - slept
            pause = max(MIN_PAUSE_S, min(left, POLL_INTERVAL_S))
            woken = self._woken.wait(pause)
            slept += pause
            if woken:
                # What a command writes in quick succession is looked at once.
                self._pause()
            if woken or left <= pause or read_mtime_ns(journal) != seen:
                return

    def _pause(self) -> None:
        if not self._ending:
            time.sleep(MIN_PAUSE_S)

    def _write_metrics(self, config: AgentConfig, site: SiteStatus, outbox: Outbox) -> None:
        path = config.metrics.file
        if path is None:
            return
        samples = collect_metrics(
            config, site, outbox, agent_version=self._agent, runs=dict(self._runs),
            status_read_at=self._looked_at,
        )  # fmt: skip
        try:
            write_metrics(path, samples)
        except OSError as error:
            logger.warning("no metrics: %s", error)
