"""Binding of an approval, its validity, and the number of missing approvers. Pure.

An approver approves what the dossier shows: a plan, on these databases, with this configuration,
and the result of a rehearsal. The *binding* is the digest of all of it. Any later change voids the
approval; a comparison of the parts gives the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import JsonRecord

#: Uids that several administrators of the machine may use (root).
SHARED_UIDS = frozenset({0})


class VoidReason(StrEnum):
    """Reason why an approval no longer matches the upgrade."""

    PLAN = "plan"
    SCHEMA = "schema"
    CONFIGURATION = "configuration"
    REHEARSAL = "rehearsal"
    DATABASE_GREW = "database-grew"
    REHEARSAL_TOO_OLD = "rehearsal-too-old"


VOID_REASON_TEXTS: Mapping[VoidReason, str] = {
    VoidReason.PLAN: N_("the upgrade path changed"),
    VoidReason.SCHEMA: N_("the schema of database '{name}' changed"),
    VoidReason.CONFIGURATION: N_("the configuration changed"),
    VoidReason.REHEARSAL: N_("there is a newer rehearsal"),
    VoidReason.DATABASE_GREW: N_("database '{name}' grew by {percent} % since the rehearsal"),
    VoidReason.REHEARSAL_TOO_OLD: N_("the rehearsal is too old (age in days: {days})"),
}


@dataclass(frozen=True)
class ApprovalBasis(JsonRecord):
    """Facts that an approval covers.

    Attributes:
        plan: Digest of the hops and their release documents.
        schemas: Fingerprint of each database's schema, by logical name.
        configuration: Digest of the settings that affect an upgrade.
        rehearsal: Id of the rehearsal and the digest of its report; empty if none is required.
        sizes: Bytes of each database at the rehearsal. Not part of the binding: growth has a limit.
        rehearsed_at: Time of the rehearsal, or of the plan.
    """

    plan: str
    schemas: Mapping[str, str]
    configuration: str
    rehearsal: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    rehearsed_at: datetime | None = None

    def compute_binding(self) -> str:
        """Return the SHA-256 (hexadecimal) that an approval stores."""
        parts = asdict(self)
        del parts["sizes"], parts["rehearsed_at"]
        content = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class VoidedApproval:
    """One difference between the approved facts and the current ones."""

    reason: VoidReason
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def text(self) -> LazyText:
        """Return the difference as text."""
        return LazyText(VOID_REASON_TEXTS[self.reason], self.values)


def find_void_reasons(
    approved: ApprovalBasis,
    current: ApprovalBasis,
    *,
    now: datetime,
    max_growth_percent: float,
    max_age: timedelta,
) -> tuple[VoidedApproval, ...]:
    """Compare the approved facts with the current ones; an empty result means it is valid.

    Args:
        approved: The approved facts.
        current: The current facts.
        now: The current time.
        max_growth_percent: Limit of a database's growth since then.
        max_age: Limit of the rehearsal's age.
    """
    reasons: list[VoidedApproval] = []
    if approved.plan != current.plan:
        reasons.append(VoidedApproval(VoidReason.PLAN))
    names = sorted(approved.schemas.keys() | current.schemas.keys())
    reasons += [
        VoidedApproval(VoidReason.SCHEMA, {"name": name})
        for name in names
        if approved.schemas.get(name) != current.schemas.get(name)
    ]
    if approved.configuration != current.configuration:
        reasons.append(VoidedApproval(VoidReason.CONFIGURATION))
    if approved.rehearsal != current.rehearsal:
        reasons.append(VoidedApproval(VoidReason.REHEARSAL))
    for name, before in sorted(approved.sizes.items()):
        size = current.sizes.get(name, before)
        if size > before * (1 + max_growth_percent / 100):
            percent = round(100 * (size - before) / before) if before else 100
            reasons.append(
                VoidedApproval(VoidReason.DATABASE_GREW, {"name": name, "percent": percent})
            )
    # If the clock was set back, the age is negative and the rehearsal stays valid.
    if approved.rehearsed_at is not None and now - approved.rehearsed_at > max_age:
        reasons.append(
            VoidedApproval(
                VoidReason.REHEARSAL_TOO_OLD, {"days": (now - approved.rehearsed_at).days}
            )
        )
    return tuple(reasons)


@dataclass(frozen=True)
class Approval:
    """Approval by one approver.

    Attributes:
        binding: The binding that was approved.
        actor: User name in the operating system.
        uid: Uid of that user; two names with one uid count as one approver.
        at: Time of the approval.
    """

    binding: str
    actor: str
    uid: int
    at: datetime


@dataclass(frozen=True)
class ApprovalCount:
    """Approvals of one binding, and the required number."""

    approvals: tuple[Approval, ...]
    needed: int

    @property
    def missing(self) -> int:
        """Return the number of missing approvals."""
        return max(0, self.needed - len(self.approvals))

    def __bool__(self) -> bool:
        """Tell whether there are enough approvals."""
        return self.missing == 0

    def would_count(self, uid: int) -> bool:
        """Tell whether an approval by this uid would count.

        A second one by the same uid does not, nor root's if two are needed.
        """
        return uid not in _list_uncounted_uids(self.needed) and all(
            one.uid != uid for one in self.approvals
        )


def _list_uncounted_uids(needed: int) -> frozenset[int]:
    """Return the uids whose approvals do not count.

    If two approvals are needed, root's does not count: the first approver may have used sudo.
    """
    return SHARED_UIDS if needed > 1 else frozenset()


def count_approvals(approvals: Iterable[Approval], binding: str, needed: int) -> ApprovalCount:
    """Count the approvals of a binding: each uid once, and root only if one approval is enough."""
    by_uid: dict[int, Approval] = {}
    uncounted = _list_uncounted_uids(needed)
    for approval in approvals:
        if approval.binding == binding and approval.uid not in uncounted:
            by_uid.setdefault(approval.uid, approval)
    return ApprovalCount(tuple(by_uid.values()), needed)


@dataclass(frozen=True)
class ReleaseApproval:
    """Approval of an upgrade by one approver, and its target.

    Attributes:
        target_version: The target release of the path.
        approval: The approval.
    """

    target_version: str
    approval: Approval


def list_approved_releases(given: Iterable[ReleaseApproval], needed: int) -> tuple[str, ...]:
    """Return the releases with enough approvals; the one that takes precedence is first.

    That is the one whose last required approval is the newest, since its approvers knew of the
    others. An approval beyond the required number does not change the order. Whether an approval is
    still valid is not checked here.

    Args:
        given: Approvals of upgrades in force, in the order in which they were given.
        needed: The required number.
    """
    releases: dict[str, None] = {}
    approvals: list[Approval] = []
    enough: set[str] = set()
    for item in given:
        approvals.append(item.approval)
        binding = item.approval.binding
        if binding not in enough and count_approvals(approvals, binding, needed):
            enough.add(binding)
            releases.pop(item.target_version, None)
            releases[item.target_version] = None
    return tuple(reversed(releases))


@dataclass(frozen=True)
class RollbackApproval:
    """Approval of a rollback by one approver.

    Attributes:
        undoes: The upgrade that the rollback undoes.
        origin: The installed release.
        target: The release to which it leads.
        accept_loss: The number of lost records that the approver accepts.
        approval: The approval.
    """

    undoes: str
    origin: str
    target: str
    accept_loss: int
    approval: Approval


def count_accepted_loss(given: Iterable[RollbackApproval], count: ApprovalCount) -> int:
    """Return the data loss that all approvers of a rollback accept; 0 until there are enough.

    Args:
        given: Approvals of rollbacks in force.
        count: Approvals of this rollback.
    """
    return count_provisional_loss(given, count) if count else 0


def count_provisional_loss(given: Iterable[RollbackApproval], count: ApprovalCount) -> int:
    """Return the data loss that all approvers so far accept, whether there are enough or not.

    Args:
        given: Approvals of rollbacks in force.
        count: Approvals of this rollback.
    """
    agreed = [one.accept_loss for one in given if one.approval in count.approvals]
    return min(agreed, default=0)


def describe_consumed_approvals(approver_names: Sequence[str]) -> LazyText:
    """Explain that an approval is valid for one attempt only."""
    template = N_("A retry requires new approvals. Approved by: {who}")
    return LazyText(template, {"who": ", ".join(approver_names)})
