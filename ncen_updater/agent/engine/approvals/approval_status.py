"""State of a planned path: rehearsed, still valid, approved. Reads the live databases."""

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


#: The tables of the configuration that an upgrade depends on. Where the feed is, and when the
#: service works, may change without anybody approving again: what is installed is signed.
DIGESTED_SETTINGS = ("site", "paths", "databases", "overlay", "application", "soak", "retention")


def compute_configuration_digest(site: Site) -> str:
    """Return the digest of the settings that an upgrade depends on."""
    # Whom to ask is nothing that an upgrade depends on.
    data = site.config.model_dump(
        mode="json", include=set(DIGESTED_SETTINGS), exclude={"site": {"contact"}}
    )
    return compute_sha256(encode_canonical_json(data))


def compute_approval_basis(
    site: Site, plan: str, rehearsal: str, at: datetime | None
) -> ApprovalBasis:
    """Return what would be approved now; reads the live databases.

    Args:
        site: The site.
        plan: Digest of the plan.
        rehearsal: What names a rehearsal and its report; empty where there is none.
        at: When it was rehearsed or planned.

    Raises:
        UpdaterError: If a database cannot be read.
    """
    from ncen_updater.agent.adapters.databases.base import LiveDatabase

    engine = site.database_engine
    return ApprovalBasis(
        plan=plan,
        schemas={n: engine.compute_fingerprint(LiveDatabase(n)) for n in engine.names},
        configuration=compute_configuration_digest(site),
        rehearsal=rehearsal,
        sizes={facts.name: facts.size_bytes for facts in engine.describe_databases()},
        rehearsed_at=at,
    )


@dataclass(frozen=True)
class ApprovalStatus:
    """Where a path stands between plan and approval.

    Attributes:
        rehearsal_status: What is known of its rehearsal.
        rehearsal: The rehearsal that counts, if one passed.
        basis: What an approval would be bound to now; None where it cannot be known yet.
        void_reasons: Why an earlier approval or rehearsal no longer holds.
    """

    rehearsal_status: RehearsalStatus
    rehearsal: RehearsalRecord | None
    basis: ApprovalBasis | None
    void_reasons: tuple[VoidedApproval, ...]


def read_approval_status(site: Site, journal: Journal, plan: str, target: str) -> ApprovalStatus:
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
    longest = timedelta(days=settings.max_rehearsal_age_days)
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
        then = ApprovalBasis.from_json(record.basis)
    basis = compute_approval_basis(site, plan, then.rehearsal, then.rehearsed_at)
    found = find_void_reasons(
        then, basis, now=now, max_growth_percent=settings.max_growth_percent, max_age=longest
    )
    if found:
        return ApprovalStatus(RehearsalStatus.OUTDATED, record, None, found)
    bound = compute_approval_basis(site, plan, record.identity, then.rehearsed_at)
    return ApprovalStatus(
        RehearsalStatus.PASSED,
        record,
        bound,
        _find_changes_since_approval(journal, target, bound, now),
    )


def _is_environmental_failure(record: RehearsalRecord) -> bool:
    """Tell whether a rehearsal failed for a reason that may be gone at the next try."""
    if record.state is not RehearsalState.FAILED:
        return False
    return record.failure is None or not record.failure.release_at_fault


def _find_changes_since_approval(
    journal: Journal, target: str, basis: ApprovalBasis, now: datetime
) -> tuple[VoidedApproval, ...]:
    """Find why what people approved before is not what would be done now."""
    approved = ApprovalStore(journal).read_last_basis(target)
    if approved is None:
        return ()
    # Age and growth count against the rehearsal, and were looked at there.
    with guard_reads(journal.path):
        then = replace(ApprovalBasis.from_json(approved), rehearsed_at=None, sizes={})
    return find_void_reasons(then, basis, now=now, max_growth_percent=0, max_age=timedelta.max)


def make_consent_check(
    site: Site, progress: ProgressListener, *, approvals: int
) -> Callable[[Journal, UpgradePath], ChangeFacts]:
    """Return what refuses a path that people have not approved as it is now.

    It returns the binding and how many had to approve: facts for the change that begins, which asks
    once more just before it keeps users out.

    Args:
        site: The site.
        progress: Told what is being done.
        approvals: How many people have to approve; 0 where only the rehearsal counts. A release
            that people went back from waits for approvals all the same.
    """

    def agree(journal: Journal, path: UpgradePath) -> ChangeFacts:
        from ncen_updater.agent.engine.plan import make_plan

        current = site.slots.read_current()
        if current is None:
            return NO_FACTS  # what follows refuses a site that never chose a release
        plan = make_plan(site, current, path, progress)
        target = path.target.version
        standing = read_approval_status(site, journal, plan.digest, target)
        reasons = join_texts(void.text for void in standing.void_reasons)
        if standing.rehearsal_status is RehearsalStatus.OUTDATED:
            raise UpdaterError(REHEARSAL_OUTDATED, version=target, reasons=reasons)
        if standing.basis is None:
            raise UpdaterError(NOT_REHEARSED, version=target)
        binding = standing.basis.compute_binding()
        left = find_rolled_back_releases(journal) & {hop.version for hop in path.hops}
        needed = approvals or (site.config.service.required_approvals if left else 0)
        people = ApprovalStore(journal).count_for_binding(binding, needed)
        if not people and standing.void_reasons:
            raise UpdaterError(REHEARSAL_OUTDATED, version=target, reasons=reasons)
        if not people:
            raise UpdaterError(
                APPROVAL_MISSING, version=target, missing=people.missing, needed=people.needed
            )
        return ChangeFacts(binding=binding, required_approvals=needed)

    return agree


def count_required_approvals(site: Site, *, scheduled: bool) -> int | None:
    """Count the approvals that an upgrade needs; None where it needs none. Pure.

    A person who types the command is the one who approves it, unless the site wants two people:
    then nobody upgrades alone. What the service begins by itself was approved, or the site says
    that nobody has to be asked; the rehearsal counts in both cases.
    """
    settings = site.config.service
    if scheduled:
        return 0 if settings.mode == "automatic" else settings.required_approvals
    return settings.required_approvals if settings.required_approvals > 1 else None
