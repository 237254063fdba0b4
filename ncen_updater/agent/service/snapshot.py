"""Snapshot of the service's present work for readers: never stored, safe between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import ProgressUpdate

#: Sentences of a command that are kept.
MAX_PROGRESS_LINES = 100


@dataclass(frozen=True)
class ServiceEvent:
    """Something that people may want to be told.

    Attributes:
        kind: A stable word.
        values: Plain values and sentences; never data of the application.
    """

    kind: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class RunningCommand:
    """A command that is being carried out.

    Attributes:
        command: The command.
        since: When it began.
        progress: What it said last of its work, and
        progress_since: when it began to say so.
        earlier_progress: What it had said before, each with its seconds; of very many the last.
    """

    command: tuple[str, ...]
    since: datetime
    progress: ProgressUpdate | None = None
    progress_since: datetime | None = None
    earlier_progress: tuple[tuple[ProgressUpdate, float], ...] = ()

    def with_progress(self, progress: ProgressUpdate, now: datetime) -> RunningCommand:
        """Return it with what the command says now; figures alone are the same sentence."""
        before, since = self.progress, self.progress_since
        if before is not None and (before.template, before.values) == (
            progress.template,
            progress.values,
        ):
            return replace(self, progress=progress)
        value = self.earlier_progress
        if before is not None and since is not None and before.template:
            # As a terminal shows it; parts that work side by side are not said each time again.
            took = max(0.0, (now - since).total_seconds())
            value = (*(one for one in value if one[0].text != before.text), (before, took))[
                -MAX_PROGRESS_LINES:
            ]
        return replace(self, progress=progress, progress_since=now, earlier_progress=value)


@dataclass(frozen=True)
class ServiceSnapshot:
    """Everything at one moment.

    Attributes:
        sequence: Grows with every change.
        action: What the service decided to do next.
        reason: Why, in words.
        status_read_at: Of when the site is that it decided that of, also where it was the same
            again.
        running: The command that is being carried out.
        closing: Whether the service is about to end.
    """

    sequence: int = 0
    action: str | None = None
    reason: LazyText | None = None
    status_read_at: datetime | None = None
    running: RunningCommand | None = None
    closing: bool = False


class SnapshotStore:
    """Written by the loop, read by requests.

    Args:
        settings: The table ``[service]`` in force.
        now: The wall clock.
    """

    def __init__(self, settings: ServiceSettings, now: Callable[[], datetime]) -> None:
        self._settings, self._now = settings, now
        self._moment = ServiceSnapshot()
        self._changed = threading.Condition()

    @property
    def settings(self) -> ServiceSettings:
        """Return the table ``[service]`` in force."""
        return self._settings

    def update_settings(self, settings: ServiceSettings) -> None:
        """Take other settings."""
        self._settings = settings

    def handle_event(self, event: ServiceEvent) -> None:
        """Take note of what comes next; a listener of the service."""
        if event.kind == "next":
            self._update(action=str(event.values["action"]), reason=event.values["reason"])
        elif event.kind == "looked":
            self._update(status_read_at=event.values["at"])

    def record_start(self, command: Sequence[str]) -> None:
        """Take note of a command that begins."""
        self._update(running=RunningCommand(tuple(command), self._now()))

    def record_progress(self, progress: ProgressUpdate) -> None:
        """Take note of progress of the command."""
        running = self._moment.running
        if running is not None:
            self._update(running=running.with_progress(progress, self._now()))

    def record_end(self) -> None:
        """Take note that the command has ended; why it began is no longer told."""
        self._update(running=None, action=None, reason=None)

    def close(self) -> None:
        """Send everybody home who waits."""
        self._update(closing=True)

    def get_latest(self) -> ServiceSnapshot:
        """Return the latest snapshot."""
        return self._moment

    def wait_for_change(self, number: int, seconds: float) -> ServiceSnapshot:
        """Wait until something is newer than a number, or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._moment.sequence != number, seconds)
            return self._moment

    def _update(self, **changes: object) -> None:
        with self._changed:
            number = self._moment.sequence + 1
            self._moment = replace(self._moment, sequence=number, **changes)  # type: ignore[arg-type]
            self._changed.notify_all()
