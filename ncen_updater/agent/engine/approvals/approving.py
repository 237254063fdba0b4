"""Approving a path as it stands now, and choosing its time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version

from ncen_updater.agent.engine.approvals.choosing import tried_since
from ncen_updater.agent.engine.approvals.model import ApprovalBasis, ApprovalCount
from ncen_updater.agent.engine.approvals.status import ApprovalStatus, standing_for
from ncen_updater.agent.engine.approvals.store import ApprovalStore, ScheduleRecord
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.plan import Plan, make_plan
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.steps.guards import refuse_lasting
from ncen_updater.agent.model.person import Person
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import joined
from ncen_updater.common.messages import (
    NOT_REHEARSED,
    NOTHING_TO_APPROVE,
    REHEARSAL_OUTDATED,
)
from ncen_updater.common.progress import Progress
from ncen_updater.feed.upgrade_path import NoPath, UpgradePath


@dataclass(frozen=True)
class ApprovalSubject:
    """What can be approved now.

    Attributes:
        target: Where the path leads.
        plan: The plan.
        standing: Its rehearsal and what an approval is bound to.
        people: Who approved it.
        scheduled: The time that somebody chose.
    """

    target: str
    plan: Plan
    standing: ApprovalStatus
    people: ApprovalCount
    scheduled: ScheduleRecord | None

    @property
    def binding(self) -> str:
        """What approvals carry; empty where nothing can be approved yet."""
        return self.standing.basis.binding() if self.standing.basis else ""


def subject(
    site: Site,
    journal: Journal,
    progress: Progress,
    target: Version | None = None,
    *,
    retry: bool = False,
) -> ApprovalSubject:
    """Say what can be approved, from what is here already; asks no feed.

    Args:
        site: The site.
        journal: Its journal.
        progress: Told what is being done.
        target: The release; what comes next where it is left out.
        retry: Whether one that failed here is taken, too.

    Raises:
        NothingToApprove: If nothing is on offer.
        FeedNeverRead: If what is on offer is not known yet.
        UpdaterError: If a database or a slot cannot be read.
    """
    again = retry or (target is not None and tried_since(journal, target))
    path: UpgradePath | NoPath = Operations(site, progress).known_path(journal, target, retry=again)
    current = site.slots.current()
    if not isinstance(path, UpgradePath) or current is None:
        raise UpdaterError(NOTHING_TO_APPROVE, current=str(current))
    plan = make_plan(site, current, path, progress)
    name = path.target.version
    standing = standing_for(site, journal, plan.digest, name)
    consent = ApprovalStore(journal)
    binding = standing.basis.binding() if standing.basis else ""
    people = consent.people(binding, site.config.service.approvals)
    return ApprovalSubject(name, plan, standing, people, consent.scheduled(binding))


def require_basis(found: ApprovalSubject) -> ApprovalBasis:
    """Return what an approval would be bound to.

    Raises:
        GuardBlocks: If something stands in the way that no waiting ends.
        NotRehearsed, RehearsalOutdated: If there is nothing that holds.
    """
    refuse_lasting(found.plan.findings)
    if found.standing.basis is not None:
        return found.standing.basis
    if found.standing.voids:
        reasons = joined(void.text for void in found.standing.voids)
        raise UpdaterError(REHEARSAL_OUTDATED, version=found.target, reasons=reasons)
    raise UpdaterError(NOT_REHEARSED, version=found.target)


def approve(journal: Journal, found: ApprovalSubject, person: Person) -> bool:
    """Write a person's approval; False where they had given it.

    Raises:
        NotRehearsed, RehearsalOutdated: If there is nothing that holds.
        RootIsNobody: If it could be anybody's, where two people have to approve.
        OpenChange: If a change is open: what it comes to is to be seen first.
    """
    basis = require_basis(found)
    needed = found.people.needed
    return ApprovalStore(journal).approve(
        found.binding, found.target, basis.to_json(), person, needed
    )


def schedule(
    journal: Journal, found: ApprovalSubject, not_before: datetime, person: Person
) -> None:
    """Choose when the upgrade may begin; it still waits for approvals and the window.

    Raises:
        NotRehearsed, RehearsalOutdated: If there is nothing that holds.
        OpenChange: If a change is open.
    """
    require_basis(found)
    ApprovalStore(journal).schedule(found.binding, found.target, not_before, person)
