"""Where a planned path stands: rehearsed, still true, approved. Reads the live databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ncen_updater.agent.engine.approvals.binding import basis_now
from ncen_updater.agent.engine.approvals.model import ApprovalBasis, Invalidation, voids
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.pending_rollback import left_behind
from ncen_updater.agent.engine.rehearsal.store import RehearsalRecord, Rehearsals, RehearsalState
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.policy.automation import Rehearsed
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import reading
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import joined
from ncen_updater.common.messages import APPROVAL_MISSING, NOT_REHEARSED, REHEARSAL_OUTDATED
from ncen_updater.common.progress import Progress

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.feed.upgrade_path import UpgradePath


@dataclass(frozen=True)
class ApprovalStatus:
    """Where a path stands between plan and approval.

    Attributes:
        rehearsed: What is known of its rehearsal.
        rehearsal: The rehearsal that counts, if one passed.
        basis: What an approval would be bound to now; None where it cannot be known yet.
        voids: Why an earlier approval or rehearsal no longer holds.
    """

    rehearsed: Rehearsed
    rehearsal: RehearsalRecord | None
    basis: ApprovalBasis | None
    voids: tuple[Invalidation, ...]


def standing_for(site: Site, journal: Journal, plan: str, target: str) -> ApprovalStatus:
    """Say where a planned path stands.

    Args:
        site: The site.
        journal: Its journal.
        plan: Digest of the plan.
        target: Where the path leads.

    Raises:
        UpdaterError: If a database or the journal cannot be read.
    """
    settings = site.config.service
    now = site.clock.now()
    longest = timedelta(days=settings.rehearsal_days)
    record = Rehearsals(journal).last(str(site.slots.current()), target)
    if not settings.rehearse:
        basis = basis_now(site, plan, "", now)
        return ApprovalStatus(
            Rehearsed.NOT_WANTED, None, basis, _since_approval(journal, target, basis, now)
        )
    if record is None or record.state is RehearsalState.RUNNING or _nobodys_fault(record):
        return ApprovalStatus(Rehearsed.MISSING, None, None, ())
    if record.state is RehearsalState.FAILED or record.basis is None:
        return ApprovalStatus(Rehearsed.FAILED, record, None, ())
    with reading(journal.path):
        then = ApprovalBasis.from_json(record.basis)
    basis = basis_now(site, plan, then.rehearsal, then.at)
    found = voids(then, basis, time=now, growth_percent=settings.growth_percent, longest=longest)
    if found:
        return ApprovalStatus(Rehearsed.VOID, record, None, found)
    bound = basis_now(site, plan, record.mark, then.at)
    return ApprovalStatus(
        Rehearsed.PASSED, record, bound, _since_approval(journal, target, bound, now)
    )


def _nobodys_fault(record: RehearsalRecord) -> bool:
    """Whether a rehearsal failed for a reason that may be gone at the next try."""
    if record.state is not RehearsalState.FAILED:
        return False
    return record.failure is None or not record.failure.blamed


def _since_approval(
    journal: Journal, target: str, basis: ApprovalBasis, now: datetime
) -> tuple[Invalidation, ...]:
    """Why what people approved before is not what would be done now."""
    approved = ApprovalStore(journal).last_basis(target)
    if approved is None:
        return ()
    # Age and growth count against the rehearsal, and were looked at there.
    with reading(journal.path):
        then = replace(ApprovalBasis.from_json(approved), at=None, sizes={})
    return voids(then, basis, time=now, growth_percent=0, longest=timedelta.max)


def require_consent(
    site: Site, progress: Progress, *, approvals: int
) -> Callable[[Journal, UpgradePath], ChangeFacts]:
    """Return what refuses a path that people have not approved as it is now.

    It returns the binding and how many had to approve: facts for the change that begins, which asks
    once more just before it keeps officers out.

    Args:
        site: The site.
        progress: Told what is being done.
        approvals: How many people have to approve; 0 where only the rehearsal counts. A release
            that people went back from waits for approvals all the same.
    """

    def agree(journal: Journal, path: UpgradePath) -> ChangeFacts:
        from ncen_updater.agent.engine.plan import make_plan

        current = site.slots.current()
        if current is None:
            return NO_FACTS  # what follows refuses a site that never chose a release
        plan = make_plan(site, current, path, progress)
        target = path.target.version
        standing = standing_for(site, journal, plan.digest, target)
        reasons = joined(void.text for void in standing.voids)
        if standing.rehearsed is Rehearsed.VOID:
            raise UpdaterError(REHEARSAL_OUTDATED, version=target, reasons=reasons)
        if standing.basis is None:
            raise UpdaterError(NOT_REHEARSED, version=target)
        binding = standing.basis.binding()
        left = left_behind(journal) & {hop.version for hop in path.hops}
        needed = approvals or (site.config.service.approvals if left else 0)
        people = ApprovalStore(journal).people(binding, needed)
        if not people and standing.voids:
            raise UpdaterError(REHEARSAL_OUTDATED, version=target, reasons=reasons)
        if not people:
            raise UpdaterError(
                APPROVAL_MISSING, version=target, missing=people.missing, needed=people.needed
            )
        return ChangeFacts(binding=binding, approvals=needed)

    return agree


def consent_required(site: Site, *, scheduled: bool) -> int | None:
    """How many people have to approve an upgrade; None where nobody has to be asked. Pure.

    A person who types the command is the one who approves it, unless the site wants two people:
    then nobody upgrades alone. What the service begins by itself was approved, or the site says
    that nobody has to be asked; the rehearsal counts in both cases.
    """
    settings = site.config.service
    if scheduled:
        return 0 if settings.mode == "automatic" else settings.approvals
    return settings.approvals if settings.approvals > 1 else None
