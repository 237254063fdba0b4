"""Binding of an approval, its validity, and the approvers who are missing. Pure.

People approve what they have seen: a plan, on these databases, with this configuration, rehearsed
with this result. The *binding* is the digest of all of it; whatever changes afterwards voids the
approval, and the reason is told by comparing the parts.
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

#: Numbers of users that anybody may be who administers the machine.
SHARED_UIDS = frozenset({0})


class VoidReason(StrEnum):
    """Why what was approved is not what would be done now."""

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
    """What people approve.

    Attributes:
        plan: Digest of hops and their release documents.
        schemas: Logical name of each database to the fingerprint of its structure.
        configuration: Digest of the settings that an upgrade depends on.
        rehearsal: Id of the rehearsal and the digest of its report; empty where none is asked for.
        sizes: Logical name to bytes, at the rehearsal. Not part of the digest: growth has a limit.
        rehearsed_at: When it was rehearsed, or planned.
    """

    plan: str
    schemas: Mapping[str, str]
    configuration: str
    rehearsal: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    rehearsed_at: datetime | None = None

    def compute_binding(self) -> str:
        """Return the SHA-256 (hexadecimal) that approvals carry."""
        parts = asdict(self)
        del parts["sizes"], parts["rehearsed_at"]
        content = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class VoidedApproval:
    """One difference between what was approved and what is there."""

    reason: VoidReason
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def text(self) -> LazyText:
        """Return the difference in words."""
        return LazyText(VOID_REASON_TEXTS[self.reason], self.values)


def find_void_reasons(
    approved: ApprovalBasis,
    current: ApprovalBasis,
    *,
    now: datetime,
    max_growth_percent: float,
    max_age: timedelta,
) -> tuple[VoidedApproval, ...]:
    """Compare what was approved with what would be done now; empty means it holds.

    Args:
        approved: What was approved.
        current: The same facts, fresh.
        now: The time.
        max_growth_percent: So much may a database grow in the meantime.
        max_age: So old may a rehearsal become.
    """
    found: list[VoidedApproval] = []
    if approved.plan != current.plan:
        found.append(VoidedApproval(VoidReason.PLAN))
    names = sorted(approved.schemas.keys() | current.schemas.keys())
    found += [
        VoidedApproval(VoidReason.SCHEMA, {"name": name})
        for name in names
        if approved.schemas.get(name) != current.schemas.get(name)
    ]
    if approved.configuration != current.configuration:
        found.append(VoidedApproval(VoidReason.CONFIGURATION))
    if approved.rehearsal != current.rehearsal:
        found.append(VoidedApproval(VoidReason.REHEARSAL))
    for name, before in sorted(approved.sizes.items()):
        size = current.sizes.get(name, before)
        if size > before * (1 + max_growth_percent / 100):
            percent = round(100 * (size - before) / before) if before else 100
            found.append(
                VoidedApproval(VoidReason.DATABASE_GREW, {"name": name, "percent": percent})
            )
    # A clock that was set back does not make an old rehearsal young, nor a young one void.
    if approved.rehearsed_at is not None and now - approved.rehearsed_at > max_age:
        found.append(
            VoidedApproval(
                VoidReason.REHEARSAL_TOO_OLD, {"days": (now - approved.rehearsed_at).days}
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Approval:
    """One person's yes.

    Attributes:
        binding: What was approved.
        actor: Name of the operating system's user.
        uid: Number of that user; two names of one number are one person.
        at: When.
    """

    binding: str
    actor: str
    uid: int
    at: datetime


@dataclass(frozen=True)
class ApprovalCount:
    """How many have said yes to one binding."""

    approvals: tuple[Approval, ...]
    needed: int

    @property
    def missing(self) -> int:
        """Return how many more people have to approve."""
        return max(0, self.needed - len(self.approvals))

    def __bool__(self) -> bool:
        """Tell whether enough have approved."""
        return self.missing == 0

    def would_count(self, uid: int) -> bool:
        """Tell whether this person's approval would count: not their second, nor root's of two."""
        return uid not in _list_uncounted_uids(self.needed) and all(
            one.uid != uid for one in self.approvals
        )


def _list_uncounted_uids(needed: int) -> frozenset[int]:
    """List whose approval does not count: where two are needed, the first may have typed sudo."""
    return SHARED_UIDS if needed > 1 else frozenset()


def count_approvals(approvals: Iterable[Approval], binding: str, needed: int) -> ApprovalCount:
    """Count the people who approved a binding; each counts once, and root as none of two."""
    people: dict[int, Approval] = {}
    no_user = _list_uncounted_uids(needed)
    for approval in approvals:
        if approval.binding == binding and approval.uid not in no_user:
            people.setdefault(approval.uid, approval)
    return ApprovalCount(tuple(people.values()), needed)


@dataclass(frozen=True)
class ReleaseApproval:
    """One person's yes to an upgrade, and where that leads.

    Attributes:
        target_version: The release that the path leads to.
        approval: The yes.
    """

    target_version: str
    approval: Approval


def list_approved_releases(given: Iterable[ReleaseApproval], needed: int) -> tuple[str, ...]:
    """Return the releases that enough people approved, the one that comes first at the head.

    That is the one whose last missing yes was given last: people chose it knowing of the others.
    Who adds a yes that nobody needed any more chooses nothing. Whether what they saw is still what
    would be done is not judged here.

    Args:
        given: Approvals of upgrades in force, in the order in which they came.
        needed: How many people have to approve.
    """
    found: dict[str, None] = {}
    before: list[Approval] = []
    enough: set[str] = set()
    for one in given:
        before.append(one.approval)
        binding = one.approval.binding
        if binding not in enough and count_approvals(before, binding, needed):
            enough.add(binding)
            found.pop(one.target_version, None)
            found[one.target_version] = None
    return tuple(reversed(found))


@dataclass(frozen=True)
class RollbackApproval:
    """One person's yes to a rollback.

    Attributes:
        undoes: The upgrade that it undoes.
        origin: The release that is left.
        target: The release that is gone back to.
        accept_loss: So many records may be lost by it.
        approval: The yes.
    """

    undoes: str
    origin: str
    target: str
    accept_loss: int
    approval: Approval


def count_accepted_loss(given: Iterable[RollbackApproval], count: ApprovalCount) -> int:
    """Count the records that a rollback may lose by all approvers; none until they are enough.

    Args:
        given: Approvals of rollbacks in force.
        count: Who approved this one.
    """
    return count_provisional_loss(given, count) if count else 0


def count_provisional_loss(given: Iterable[RollbackApproval], count: ApprovalCount) -> int:
    """Count the records that a rollback may lose by its approvers, be they enough or not.

    Args:
        given: Approvals of rollbacks in force.
        count: Who approved this one.
    """
    agreed = [one.accept_loss for one in given if one.approval in count.approvals]
    return min(agreed, default=0)


def describe_consumed_approvals(approver_names: Sequence[str]) -> LazyText:
    """Say that a yes is for one try: after an undone change it has to be said again."""
    words = N_("A retry requires new approvals. Approved by: {who}")
    return LazyText(words, {"who": ", ".join(approver_names)})
