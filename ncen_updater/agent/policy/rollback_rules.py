"""Approvals that a rollback needs before it interrupts users. Pure.

A rollback needs as many approvals as an upgrade (``service.required_approvals``): it interrupts
users, and may bring an old security hole back. It needs none in the soak period or while a change
is stuck, because that is what the soak period is for; and none in an emergency, which is notified
to everybody at once instead.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum


class RollbackConsent(StrEnum):
    """Why a rollback may begin, or that it may not."""

    NOT_REQUIRED = "watched"
    REQUESTED_BY_APPROVER = "agreed"
    APPROVED = "approved"
    EMERGENCY = "emergency"
    MISSING = "missing"


@dataclass(frozen=True)
class RollbackVerdict:
    """Whether a rollback may begin.

    Attributes:
        consent: Why.
        missing: So many people have to approve yet.
    """

    consent: RollbackConsent
    missing: int = 0

    def __bool__(self) -> bool:
        """Whether it may."""
        return self.consent is not RollbackConsent.MISSING


def decide_rollback(
    *, in_soak: bool, needed: int, approvals: int, approver: bool, emergency: bool
) -> RollbackVerdict:
    """Decide whether a rollback may begin.

    Args:
        in_soak: Whether the upgrade is still watched, or a change is stuck.
        needed: How many people have to approve an upgrade at this site.
        approvals: How many have approved this rollback.
        approver: Whether who asks may approve: where one is enough, asking is approving.
        emergency: Whether they say that it cannot wait.
    """
    if in_soak:
        return RollbackVerdict(RollbackConsent.NOT_REQUIRED)
    if emergency:
        return RollbackVerdict(RollbackConsent.EMERGENCY)
    if approvals >= needed:
        return RollbackVerdict(RollbackConsent.APPROVED)
    if needed == 1 and approver:
        return RollbackVerdict(RollbackConsent.REQUESTED_BY_APPROVER)
    return RollbackVerdict(RollbackConsent.MISSING, needed - approvals)


def compute_rollback_binding(undoes: str, origin: str, target: str) -> str:
    """Return what approvals of a rollback carry: of this upgrade, and of no other.

    Args:
        undoes: The upgrade that is undone.
        origin: The release in use.
        target: The release that is gone back to.
    """
    parts = {"rollback": undoes, "from": origin, "to": target}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
