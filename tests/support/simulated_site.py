"""Simulated site in memory with a simulated clock, for tests of the service's decisions.

It replaces everything below the service: the journal, the worker processes and the feed. Its diary
of actions with their times is checked by the caller.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.config.essential_settings import EssentialSettings
from ncen_updater.agent.engine.approvals.approval import Approval
from ncen_updater.agent.engine.approvals.approval_store import ScheduleRecord
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.policy.automation import RehearsalStatus, compute_retry_at
from ncen_updater.agent.reports.status import JournalSnapshot, SiteStatus
from ncen_updater.agent.service.apply_runner import WorkerResult
from ncen_updater.agent.storage.journal.jobs import Job
from ncen_updater.agent.storage.journal.site_history import HoldRecord
from ncen_updater.agent.storage.service_state import Assessment, ServiceState
from ncen_updater.common.messages import ExitCode
from tests.agent.cli.site import CHANGE

NOWHERE = Path("/nowhere")
PLACES = EssentialSettings(NOWHERE, NOWHERE, NOWHERE, NOWHERE, "ncen", "ke-1", "KE", NOWHERE)


@dataclass(frozen=True)
class Entry:
    """One entry of the diary."""

    at: datetime
    words: tuple[str, ...]
    exit_code: int


@dataclass
class SimulatedSite:
    """Simulated site: facts that a test may change between two steps, and effects of workers.

    Attributes:
        now: The clock, UTC.
        current: The installed release.
        offered: Releases in the feed, oldest first.
        seen: Releases known to the site.
        feed_up: Whether the feed is reachable.
        lapsed: Whether its metadata has expired.
        failing: Releases that fail at the cut-over.
        minutes: Duration of an operation, by its command.
        keep_for: Retention of previous databases; None if there are none.
        agent: A newer agent in the feed; ``agent_fails`` if its slot cannot be created.
        full: Whether the service cannot save its state because the disk is full.
        approve_after: Time from the rehearsal to the approval; None for no approval.
    """

    now: datetime
    current: str = "1.0"
    offered: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    feed_up: bool = True
    lapsed: bool = False
    failing: set[str] = field(default_factory=set)
    minutes: dict[str, float] = field(default_factory=dict)
    approve_after: timedelta | None = timedelta(hours=23)
    keep_for: timedelta | None = None
    prune_at: datetime | None = None
    agent: str | None = None
    agent_fails: bool = False
    held: str | None = None
    stuck: bool = False
    open_change: bool = False
    order: Job | None = None
    not_before: datetime | None = None
    hold_until: datetime | None = None
    full: bool = False
    event: int = 1
    slots: set[str] = field(default_factory=set)
    rehearsed_at: dict[str, datetime] = field(default_factory=dict)
    bad: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    diary: list[Entry] = field(default_factory=list)
    kept: ServiceState = field(default_factory=ServiceState)

    # ---- interface of the service ----------------------------------------------------------------

    def look(self) -> SiteStatus:
        """Replace the reading of the status."""
        state = ChangeState.STUCK if self.stuck else ChangeState.RUNNING
        bindings = ("", *self.rehearsed_at)
        journal = JournalSnapshot(
            last_event=self.event,
            open_change=replace(CHANGE, state=state) if self.open_change or self.stuck else None,
            holds=(HoldRecord(1, self.held, "amina", self.now, self.hold_until),)
            if self.held
            else (),
            waiting_job=self.order,
            approvals=tuple(
                Approval(binding, "amina", 1001, self.now)
                for binding in bindings
                if self._approved(binding)
            ),
            schedules=tuple(
                ScheduleRecord(binding, "", self.not_before, "amina") for binding in bindings
            )
            if self.not_before
            else (),
        )
        return SiteStatus(self.now, PLACES, lock_holder=None, journal=journal, rehearsals=())

    def load(self) -> ServiceState:
        """Replace the loading of the service's state."""
        return self.kept

    def save(self, service_state: ServiceState) -> None:
        """Replace the saving of the state, including its serialisation."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.kept = ServiceState.from_json(service_state.to_json())

    def take(self, number: int) -> None:
        """Replace the start of a job in the journal."""
        assert self.order is not None
        assert self.order.id == number
        self.event += 1

    def end(self, number: int, result: object) -> None:
        """Replace the end of a job in the journal."""
        del result
        assert self.order is not None
        assert self.order.id == number
        self.order = None
        self.event += 1

    def assess(self) -> WorkerResult:
        """Replace the worker that assesses the next upgrade."""
        target = self._target()
        found = Assessment(
            self.event, self.current, agent_version=self.agent, prune_at=self.prune_at
        )
        if target is not None:
            rehearsed = (
                RehearsalStatus.PASSED if target in self.rehearsed_at else RehearsalStatus.MISSING
            )
            bad = self.bad.get(target)
            found = replace(
                found,
                target=target,
                slot_built=target in self.slots,
                rehearsal_status=rehearsed,
                binding=target if rehearsed is RehearsalStatus.PASSED else "",
                retry_at=compute_retry_at(*bad) if bad else None,
            )
        return WorkerResult(0, found.to_json())

    def run(self, words: Sequence[str]) -> WorkerResult:
        """Replace the worker that runs operations."""
        began = self.now
        code = self._act(words[0], tuple(words[1:]))
        self.now += timedelta(minutes=self.minutes.get(words[0], 1))
        self.diary.append(Entry(began, tuple(words), code))
        said = "NU-2102" if code == ExitCode.NETWORK else "NU-0000"
        return WorkerResult(code, {"error": {"code": said}} if code else {})

    # ---- how it behaves --------------------------------------------------------------------------

    def _act(self, what: str, more: tuple[str, ...]) -> int:
        match what:
            case "check":
                if not self.feed_up:
                    return ExitCode.NETWORK
                if self.lapsed:
                    return ExitCode.FEED_STALE
                self.seen = list(self.offered)
                return ExitCode.OK
            case "plan":
                if not self.feed_up:
                    return ExitCode.NETWORK
                self.slots.add(more[0])
                return ExitCode.OK
            case "rehearse":
                self.event += 1
                self.rehearsed_at[more[0]] = self.now
                return ExitCode.OK
            case "resume":
                self.event += 1
                self.open_change = False
                return ExitCode.OK
            case "prune":
                self.event += 2
                self.prune_at = None
                return ExitCode.OK
            case "self-update":
                if self.agent_fails:
                    return ExitCode.ERROR
                self.event += 1
                self.agent = None
                return ExitCode.OK
            case "receipt":
                return ExitCode.ERROR if what in self.failing else ExitCode.OK
            case "upgrade":
                return self._upgrade(more[0])
            case _:
                raise AssertionError(f"no such command: {what}")

    def _upgrade(self, version: str) -> int:
        self.event += 2
        if version in self.failing:
            times, _ = self.bad.get(version, (0, self.now))
            self.bad[version] = (times + 1, self.now)
            return ExitCode.ROLLED_BACK
        self.current = version
        self.rehearsed_at.clear()
        self.prune_at = self.now + self.keep_for if self.keep_for else None
        return ExitCode.OK

    def _target(self) -> str | None:
        newer = [v for v in self.seen if Version(v) > Version(self.current)]
        good = [v for v in newer if v not in self.bad]
        return max(good or newer, key=Version, default=None)

    def _approved(self, binding: str) -> bool:
        at = self.rehearsed_at.get(binding)
        return (
            at is not None
            and self.approve_after is not None
            and self.now >= at + self.approve_after
        )
