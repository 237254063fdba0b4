"""Snapshot of the service's current operation for API requests: never stored, thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import ProgressUpdate


@dataclass(frozen=True)
class ServiceEvent:
    """An event of the service for its listeners.

    Attributes:
        kind: A stable identifier.
        values: Plain values and texts; never data of the application.
    """

    kind: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class RunningCommand:
    """A running command.

    Attributes:
        command: The command.
        since: When it started.
        progress: The last progress message.
    """

    command: tuple[str, ...]
    since: datetime
    progress: ProgressUpdate | None = None


@dataclass(frozen=True)
class ServiceSnapshot:
    """State of the service at one moment.

    Attributes:
        sequence: Increases with every change.
        action: The next action that the service decided on.
        reason: The reason of the decision.
        status_read_at: When the status for the decision was read, even if the decision is
            unchanged.
        running: The running command.
        closing: Whether the service is stopping.
    """

    sequence: int = 0
    action: str | None = None
    reason: LazyText | None = None
    status_read_at: datetime | None = None
    running: RunningCommand | None = None
    closing: bool = False


class SnapshotStore:
    """The latest snapshot, written by the loop and read by requests.

    Args:
        settings: The table ``[service]`` in force.
        now: The wall clock.
    """

    def __init__(self, settings: ServiceSettings, now: Callable[[], datetime]) -> None:
        self._settings, self._now = settings, now
        self._snapshot = ServiceSnapshot()
        self._changed = threading.Condition()

    @property
    def settings(self) -> ServiceSettings:
        """Return the table ``[service]`` in force."""
        return self._settings

    def update_settings(self, settings: ServiceSettings) -> None:
        """Replace the settings."""
        self._settings = settings

    def handle_event(self, event: ServiceEvent) -> None:
        """Record the service's decision; a listener of the service."""
        if event.kind == "next":
            self._update(action=str(event.values["action"]), reason=event.values["reason"])
        elif event.kind == "status-read":
            self._update(status_read_at=event.values["at"])

    def record_start(self, command: Sequence[str]) -> None:
        """Record the start of a command."""
        self._update(running=RunningCommand(tuple(command), self._now()))

    def record_progress(self, progress: ProgressUpdate) -> None:
        """Record progress of the command."""
        running = self._snapshot.running
        if running is not None:
            self._update(running=replace(running, progress=progress))

    def record_end(self) -> None:
        """Record the end of the command, and clear the decision that started it."""
        self._update(running=None, action=None, reason=None)

    def close(self) -> None:
        """End all waits, since the service is stopping."""
        self._update(closing=True)

    def get_latest(self) -> ServiceSnapshot:
        """Return the latest snapshot."""
        return self._snapshot

    def wait_for_change(self, number: int, seconds: float) -> ServiceSnapshot:
        """Wait until the snapshot differs from a sequence number, or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._snapshot.sequence != number, seconds)
            return self._snapshot

    def _update(self, **changes: object) -> None:
        with self._changed:
            number = self._snapshot.sequence + 1
            self._snapshot = replace(self._snapshot, sequence=number, **changes)  # type: ignore[arg-type]
            self._changed.notify_all()
