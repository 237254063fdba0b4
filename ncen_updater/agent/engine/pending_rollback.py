"""Pending rollbacks, and releases that were rolled back. Light imports.

A release that fails in its soak period is rolled back. If a power cut or a full disk interrupts
that rollback, the rollback is reverted, and the bad release keeps running. The rollback is then
pending until it is completed or an operator confirms the release.
"""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.agent.model.change import Change, ChangeKind, StepName, StepState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.storage.journal.jobs import Job, JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import INTERRUPTED

#: Why a resume rolls back although no change is open.
PENDING_ROLLBACK_REASON = LazyText(N_("the release failed in the soak period and is rolled back"))
#: Limits of automatic rollbacks of one release: attempts, and attempts that failed without being
#: interrupted. Each attempt costs a downtime. Beyond the limits an operator has to decide.
MAX_ATTEMPTS, MAX_FAILURES = 5, 2
#: Number of the newest changes that are examined.
MAX_CHANGES = 30


@dataclass(frozen=True)
class PendingRollback:
    """Pending rollback of a release.

    Attributes:
        change: The upgrade that installed the release.
        attempts: Rollbacks that were begun for it and reverted.
        failures: Attempts that failed and were not only interrupted.
    """

    change: Change
    attempts: int
    failures: int = 0

    @property
    def is_automatic(self) -> bool:
        """Return whether it is retried automatically."""
        return self.attempts < MAX_ATTEMPTS and self.failures < MAX_FAILURES


def find_pending_rollback(journal: Journal) -> PendingRollback | None:
    """Return the pending rollback; None if there is none, or if a change is open."""
    attempts = failures = 0
    for change in journal.list_changes(MAX_CHANGES):
        if change.state.is_open:
            return None
        if not change.is_committed:
            if (
                change.kind is ChangeKind.ROLLBACK
                and journal.read_facts(change.id).failed_soak_upgrade
            ):
                attempts += 1
                failures += change.error_code not in (None, INTERRUPTED.code)
            continue
        if (
            attempts
            and journal.read_facts(change.id).is_soak_failed
            and change.kind is ChangeKind.UPGRADE
        ):
            return PendingRollback(change, attempts, failures)
        return None
    return None


def find_rolled_back_releases(journal: Journal) -> frozenset[str]:
    """Return releases that an operator rolled back and that no later upgrade installed again."""
    releases: set[str] = set()
    for change in reversed(journal.list_changes()):
        if not change.is_committed:
            continue
        if change.kind is ChangeKind.UPGRADE:
            releases.discard(change.to_version)
        elif journal.read_facts(change.id).failed_soak_upgrade is None:
            releases.add(change.from_version)
    return frozenset(releases)


def inherit_facts(journal: Journal, superseded_change: str | None) -> ChangeFacts:
    """Return the facts that a rollback inherits from a change whose downtime has not ended."""
    if (
        superseded_change is None
        or journal.read_change(superseded_change).get_step_state(StepName.MAINTENANCE_OFF)
        is StepState.DONE
    ):
        return NO_FACTS
    page_was_on = journal.read_facts(superseded_change).maintenance_was_on or False
    return ChangeFacts(maintenance_was_on=page_was_on, was_running=True)


def can_be_superseded(journal: Journal, change: Change) -> bool:
    """Tell whether a rollback may replace an open change.

    A rollback in its soak period may not be replaced unless it failed there: otherwise a command
    given twice would roll back two releases.
    """
    if change.kind is ChangeKind.ROLLBACK and journal.read_facts(change.id).soak_error is None:
        return False
    return change.is_open_after_commit


def find_rollback_job(journal: Journal) -> Job | None:
    """Return the queued rollback job that ends the soak period; None if there is none."""
    change = journal.find_open_change()
    if change is None or not change.is_soaking or not can_be_superseded(journal, change):
        return None
    waiting = (job for job in JobQueue(journal).list_unfinished() if job.started_at is None)
    return next((job for job in waiting if job.kind is JobKind.ROLLBACK), None)
