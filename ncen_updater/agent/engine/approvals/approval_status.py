"""Approval status of a planned path: rehearsed, valid, approved. Reads the live databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ncen_updater.agent.engine.approvals.approval import (
    ApprovalBasis,
    VoidedApproval,
    find_void_reasons,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.pending_rollback import find_rolled_back_releases
from ncen_updater.agent.engine.rehearsal.rehearsal_store import (
    RehearsalRecord,
    RehearsalState,
    RehearsalStore,
)
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import join_texts
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import APPROVAL_MISSING, NOT_REHEARSED, REHEARSAL_OUTDATED
from ncen_updater.common.progress import ProgressListener

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.feed.upgrade_path import UpgradePath


#: Tables of the configuration that affect an upgrade. Feed and service settings may change without
#: a new approval: the installed files are signed.
DIGESTED_SETTINGS = ("site", "paths", "databases", "overlay", "application", "soak", "retention")


def compute_configuration_digest(site: Site) -> str:
    """Return the digest of the settings that an upgrade depends on."""
    # The contact does not affect an upgrade.
    data = site.config.model_dump(
        mode="json", include=set(DIGESTED_SETTINGS), exclude={"site": {"contact"}}
    )
    return compute_sha256(encode_canonical_json(data))


def compute_approval_basis(
    site: Site, plan: str, rehearsal: str, at: datetime | None
) -> ApprovalBasis:
    """Return the facts that an approval would cover now; reads the live databases.

    Args:
        site: The site.
        plan: Digest of the plan.
        rehearsal: Identity of a rehearsal and its report; empty if there is none.
        at: Time of the rehearsal or the plan.

    Raises:
        UpdaterError: If a database cannot be read.
    """
    from ncen_updater.agent.adapters.databases.base import LiveDatabase

    engine = site.database_engine
    return ApprovalBasis(
        plan=plan,
        schemas={n: engine.read_schema(LiveDatabase(n)).fingerprint for n in engine.names},
        configuration=compute_configuration_digest(site),
        rehearsal=rehearsal,
        sizes={facts.name: facts.size_bytes for facts in engine.describe_databases()},
        rehearsed_at=at,
    )


@dataclass(frozen=True)
class ApprovalStatus:
    """Status of a path between plan and approval.

    Attributes:
        rehearsal_status: Status of its rehearsal.
        rehearsal: The newest rehearsal of the path; None if there is none that counts.
        basis: The facts that an approval would cover now; None if unknown.
        void_reasons: Why an earlier approval or rehearsal is no longer valid.
    """

    rehearsal_status: RehearsalStatus
    rehearsal: RehearsalRecord | None
    basis: ApprovalBasis | None
    void_reasons: tuple[VoidedApproval, ...]


def read_approval_status(site: Site, journal: Journal, plan: str, target: str) -> ApprovalStatus:
    """Return the approval status of a planned path.

    Args:
        site: The site.
        journal: Its journal.
        plan: Digest of the plan.
        target: Target release of the path.

    Raises:
        UpdaterError: If a database or the journal cannot be read.
    """
    settings = site.config.service
    now = site.clock.now()
    max_age = timedelta(days=settings.max_rehearsal_age_days)
    record = RehearsalStore(journal).find_last(str(site.slots.read_current()), target)
    if not settings.rehearse:
        basis = compute_approval_basis(site, plan, "", now)
        return ApprovalStatus(
            RehearsalStatus.NOT_REQUIRED,
            None,
            basis,
            _find_changes_since_approval(journal, target, basis, now),
        )
    if (
        record is None
        or record.state is RehearsalState.RUNNING
        or _is_environmental_failure(record)
    ):
        return ApprovalStatus(RehearsalStatus.MISSING, None, None, ())
    if record.state is RehearsalState.FAILED or record.basis is None:
        return ApprovalStatus(RehearsalStatus.FAILED, record, None, ())
    with guard_reads(journal.path):
        rehearsed = ApprovalBasis.from_json(record.basis)
    basis = compute_approval_basis(site, plan, rehearsed.rehearsal, rehearsed.rehearsed_at)
    reasons = find_void_reasons(
        rehearsed, basis, now=now, max_growth_percent=settings.max_growth_percent, max_age=max_age
    )
    if reasons:
        return ApprovalStatus(RehearsalStatus.OUTDATED, record, None, reasons)
    approvable = compute_approval_basis(site, plan, record.identity, rehearsed.rehearsed_at)
    return ApprovalStatus(
        RehearsalStatus.PASSED,
        record,
        approvable,
        _find_changes_since_approval(journal, target, approvable, now),
    )


def _is_environmental_failure(record: RehearsalRecord) -> bool:
    """Tell whether a rehearsal failed for a reason other than the release, so a retry may pass."""
    if record.state is not RehearsalState.FAILED:
        return False
    return record.failure is None or not record.failure.release_at_fault


def _find_changes_since_approval(
    journal: Journal, target: str, basis: ApprovalBasis, now: datetime
) -> tuple[VoidedApproval, ...]:
    """Return why an earlier approval does not match the current facts."""
    approved = ApprovalStore(journal).read_last_basis(target)
    if approved is None:
        return ()
    # Age and growth are limits of the rehearsal and were checked there.
    with guard_reads(journal.path):
        earlier = replace(ApprovalBasis.from_json(approved), rehearsed_at=None, sizes={})
    return find_void_reasons(earlier, basis, now=now, max_growth_percent=0, max_age=timedelta.max)


def make_consent_check(
    site: Site, progress: ProgressListener, *, approvals: int
) -> Callable[[Journal, UpgradePath], ChangeFacts]:
    """Return a function that refuses a path without valid approvals.

    The function returns the binding and the required number as facts of the change, which are
    checked again just before the downtime.

    Args:
        site: The site.
        progress: Receives progress reports.
        approvals: The required number; 0 if only the rehearsal counts. A release that operators
            rolled back always needs approvals.
    """

    def check_consent(journal: Journal, path: UpgradePath) -> ChangeFacts:
        from ncen_updater.agent.engine.plan import make_plan

        current = site.slots.read_current()
        if current is None:
            return NO_FACTS  # The caller refuses a site without an installed release.
        plan = make_plan(site, current, path, progress)
        target = path.target.version
        status = read_approval_status(site, journal, plan.digest, target)
        reasons = join_texts(void.text for void in status.void_reasons)
        if status.rehearsal_status is RehearsalStatus.OUTDATED:
            raise UpdaterError(REHEARSAL_OUTDATED, version=target, reasons=reasons)
        if status.basis is None:
            raise UpdaterError(NOT_REHEARSED, version=target)
        binding = status.basis.compute_binding()
        rolled_back = find_rolled_back_releases(journal) & {hop.version for hop in path.hops}
        needed = approvals or (site.config.service.required_approvals if rolled_back else 0)
        count = ApprovalStore(journal).count_for_binding(binding, needed)
        if not count and status.void_reasons:
            raise UpdaterError(REHEARSAL_OUTDATED, version=target, reasons=reasons)
        if not count:
            raise UpdaterError(
                APPROVAL_MISSING, version=target, missing=count.missing, needed=count.needed
            )
        return ChangeFacts(binding=binding, required_approvals=needed)

    return check_consent


def count_required_approvals(site: Site, *, scheduled: bool) -> int | None:
    """Return the number of approvals that an upgrade needs; None if it needs none. Pure.

    The operator who types the command approves the upgrade by it, unless the site requires two
    approvers. An upgrade that the service starts was approved before, or the site is in automatic
    mode and needs none; the rehearsal counts in both cases.
    """
    settings = site.config.service
    if scheduled:
        return 0 if settings.mode == "automatic" else settings.required_approvals
    return settings.required_approvals if settings.required_approvals > 1 else None
