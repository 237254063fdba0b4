"""Approve the next upgrade in its current state, and choose its start time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval import ApprovalBasis, ApprovalCount
from ncen_updater.agent.engine.approvals.approval_status import ApprovalStatus, read_approval_status
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, ScheduleRecord
from ncen_updater.agent.engine.approvals.approved_release import has_passed_since_failure
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.plan import UpgradePlan, make_plan
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.steps.preflight import require_no_lasting_blockers
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import join_texts
from ncen_updater.common.messages import (
    NOT_REHEARSED,
    NOTHING_TO_APPROVE,
    REHEARSAL_OUTDATED,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.upgrade_path import UpgradePath


@dataclass(frozen=True)
class ApprovalSubject:
    """Upgrade that can be approved now.

    Attributes:
        target: Target release of the path.
        plan: The plan.
        status: Its approval status.
        count: Its approvals.
        schedule: The chosen start time, if any.
    """

    target: str
    plan: UpgradePlan
    status: ApprovalStatus
    count: ApprovalCount
    schedule: ScheduleRecord | None

    @property
    def binding(self) -> str:
        """Return the binding of an approval; empty if the upgrade cannot be approved yet."""
        return self.status.basis.compute_binding() if self.status.basis else ""


def find_upgrade_to_approve(
    site: Site,
    journal: Journal,
    progress: ProgressListener,
    target: Version | None = None,
    *,
    retry: bool = False,
) -> ApprovalSubject:
    """Return the upgrade that can be approved, without reading the feed.

    Args:
        site: The site.
        journal: Its journal.
        progress: Receives progress reports.
        target: The release; the next one if omitted.
        retry: Whether a release that is marked bad is allowed.

    Raises:
        NOTHING_TO_APPROVE: If no release is on offer.
        FEED_NEVER_READ: If no metadata was ever verified.
        UpdaterError: If a database or a slot cannot be read.
    """
    retry_allowed = retry or (target is not None and has_passed_since_failure(journal, target))
    path = find_cached_path(site, journal, target, retry=retry_allowed)
    current = site.slots.read_current()
    if not isinstance(path, UpgradePath) or current is None:
        raise UpdaterError(NOTHING_TO_APPROVE, current=str(current))
    plan = make_plan(site, current, path, progress)
    name = path.target.version
    status = read_approval_status(site, journal, plan.digest, name)
    store = ApprovalStore(journal)
    binding = status.basis.compute_binding() if status.basis else ""
    count = store.count_for_binding(binding, site.config.service.required_approvals)
    return ApprovalSubject(name, plan, status, count, store.find_schedule(binding))


def require_approvable_basis(subject: ApprovalSubject) -> ApprovalBasis:
    """Return the facts that an approval would cover.

    Raises:
        PREFLIGHT_BLOCKED: If there is a finding that only an operator can resolve.
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is no valid rehearsal.
    """
    require_no_lasting_blockers(subject.plan.findings)
    if subject.status.basis is not None:
        return subject.status.basis
    if subject.status.void_reasons:
        reasons = join_texts(void.text for void in subject.status.void_reasons)
        raise UpdaterError(REHEARSAL_OUTDATED, version=subject.target, reasons=reasons)
    raise UpdaterError(NOT_REHEARSED, version=subject.target)


def approve_upgrade(journal: Journal, subject: ApprovalSubject, actor: Actor) -> bool:
    """Record an approval; return False if this approver has already given it.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is no valid rehearsal.
        APPROVER_IS_SHARED_ACCOUNT: If the account is shared and two approvers are required.
        OPEN_CHANGE: If a change is open; its outcome must be known first.
    """
    basis = require_approvable_basis(subject)
    needed = subject.count.needed
    return ApprovalStore(journal).add(
        subject.binding, subject.target, basis.to_json(), actor, needed
    )


def schedule_upgrade(
    journal: Journal, subject: ApprovalSubject, not_before: datetime, actor: Actor
) -> None:
    """Choose when the upgrade may start; it still waits for approvals and the maintenance window.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is no valid rehearsal.
        OPEN_CHANGE: If a change is open.
    """
    require_approvable_basis(subject)
    ApprovalStore(journal).set_schedule(subject.binding, subject.target, not_before, actor)
