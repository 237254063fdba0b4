"""Approvals of a rollback: how many it needs, and those in the journal. Light imports.

A rollback needs as many approvals as an upgrade (``service.required_approvals``), since it
interrupts users and may reopen an old security hole. It needs none in the soak period or while a
change is stuck, because that is the purpose of the soak period; and none in an emergency, of which
all recipients of notifications are notified at once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval import (
    SHARED_UIDS,
    ApprovalCount,
    count_accepted_loss,
    count_approvals,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, read_accepted_loss
from ncen_updater.agent.engine.change_guards import find_last_upgrade, require_no_open_change
from ncen_updater.agent.engine.pending_rollback import find_pending_rollback
from ncen_updater.agent.model.change import Actor, Change, ChangeKind
from ncen_updater.agent.model.event_names import ROLLBACK_EMERGENCY
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DATA_LOSS_ABOVE_APPROVAL,
    EMERGENCY_WITHOUT_REASON,
    NOTHING_TO_ROLL_BACK,
    ROLLBACK_NEEDS_APPROVAL,
)


@dataclass(frozen=True)
class RollbackRequest:
    """Request for a rollback.

    Attributes:
        actor: The requesting user.
        may_approve: Whether the actor is an approver.
        emergency_reason: Reason of an emergency; None otherwise.
        accept_loss: The number of lost records that the actor accepts.
    """

    actor: Actor
    may_approve: bool
    emergency_reason: str | None = None
    accept_loss: int = 0


@dataclass(frozen=True)
class RollbackSubject:
    """Rollback that can be approved.

    Attributes:
        undoes: The upgrade that it undoes.
        origin: The installed release.
        target: The release to which it leads.
        count: Its approvals.
        in_soak: Whether the upgrade is in its soak period, so that no approval is needed.
        accepted_loss: The number of lost records that all approvers accept; 0 until there are
            enough.
    """

    undoes: str
    origin: str
    target: str
    count: ApprovalCount
    in_soak: bool
    accepted_loss: int = 0

    @property
    def binding(self) -> str:
        """Return the binding of its approvals."""
        return compute_rollback_binding(self.undoes, self.origin, self.target)

    @property
    def approver_names(self) -> str:
        """Return the names of the approvers; empty if there are none."""
        return ", ".join(given.actor for given in self.count.approvals)

    def to_json(self) -> dict[str, object]:
        """Return the approvals and the missing number, for JSON."""
        return {
            "binding": self.binding,
            "in_soak": self.in_soak,
            "approvals": [{"actor": given.actor, "at": given.at} for given in self.count.approvals],
            "missing": 0 if self.in_soak else self.count.missing,
        }


def find_installing_upgrade(journal: Journal, current: str) -> Change | None:
    """Return the upgrade that installed the current release; only upgrades to it are read in full.

    Raises:
        JournalUnreadableError: If the journal contains invalid data.
    """
    version = Version(current)
    with guard_reads(journal.path):
        rows = journal.query(
            f"SELECT id, to_version FROM changes WHERE kind = '{ChangeKind.UPGRADE}'"  # noqa: S608
            " ORDER BY rowid DESC"
        )
        upgrades = (
            journal.read_change(r["id"]) for r in rows if Version(r["to_version"]) == version
        )
        return next((change for change in upgrades if find_last_upgrade((change,), version)), None)


def find_rollback_to_approve(journal: Journal, current: str, needed: int) -> RollbackSubject:
    """Return the rollback that can be approved now.

    Args:
        journal: The journal.
        current: The installed release.
        needed: The required number of approvals.

    Raises:
        NOTHING_TO_ROLL_BACK: If no upgrade installed the current release.
    """
    upgrade = find_installing_upgrade(journal, current)
    if upgrade is None:
        raise UpdaterError(NOTHING_TO_ROLL_BACK)
    binding = compute_rollback_binding(upgrade.id, current, upgrade.from_version)
    given = ApprovalStore(journal).list_for_rollbacks()
    count = count_approvals((one.approval for one in given), binding, needed)
    in_soak = journal.find_open_change() is not None or find_pending_rollback(journal) is not None
    return RollbackSubject(
        upgrade.id,
        current,
        upgrade.from_version,
        count,
        in_soak,
        count_accepted_loss(given, count),
    )


def approve_rollback(
    journal: Journal,
    subject: RollbackSubject,
    actor: Actor,
    shared_uids: frozenset[int] = SHARED_UIDS,
    accept_loss: int = 0,
) -> bool:
    """Record an approval of a rollback; return False if this approver has already given it.

    An approval with another number of lost records replaces the earlier one.

    Args:
        journal: The journal, open for writing.
        subject: The rollback.
        actor: The approver.
        shared_uids: As for :meth:`ApprovalStore.add`.
        accept_loss: The number of lost records that the approver accepts.

    Raises:
        OPEN_CHANGE: If a change is open.
        APPROVER_IS_SHARED_ACCOUNT: If the account is shared and two approvers are required.
    """
    store = ApprovalStore(journal)
    basis: dict[str, object] = {
        "rollback": subject.undoes, "from": subject.origin, "to": subject.target,
    }  # fmt: skip
    if accept_loss:
        basis["accept_loss"] = accept_loss
    earlier = [
        one.accept_loss for one in store.list_for_rollbacks()
        if (one.approval.binding, one.approval.uid) == (subject.binding, actor.uid)
    ]  # fmt: skip
    if earlier and earlier[-1] != accept_loss:
        require_no_open_change(journal)
        store.withdraw(subject.binding, actor)
    return store.add(
        subject.binding,
        f"rollback to {subject.target}",
        basis,
        actor,
        subject.count.needed,
        shared_uids,
        event=("rollback-approved", subject.target),
    )


def require_rollback_consent(
    journal: Journal, subject: RollbackSubject, request: RollbackRequest
) -> RollbackVerdict:
    """Refuse a rollback without the required approvals; record an emergency.

    Raises:
        ROLLBACK_NEEDS_APPROVAL: If approvals are missing.
        DATA_LOSS_ABOVE_APPROVAL: If the actor is no approver, and accepts a greater loss than the
            approvers.
        EMERGENCY_WITHOUT_REASON: If an emergency has no reason.
    """
    if request.emergency_reason is not None and not request.emergency_reason.strip():
        raise UpdaterError(EMERGENCY_WITHOUT_REASON)
    verdict = decide_rollback(
        in_soak=subject.in_soak,
        needed=subject.count.needed,
        approvals=len(subject.count.approvals),
        approver=request.may_approve,
        emergency=request.emergency_reason is not None,
    )
    if not verdict:
        raise UpdaterError(
            ROLLBACK_NEEDS_APPROVAL,
            version=subject.target,
            missing=verdict.missing,
            needed=subject.count.needed,
            who=subject.approver_names or "-",
            loss=format_accept_loss_option(request.accept_loss),
        )
    if not request.may_approve:
        require_loss_accepted(subject, request.accept_loss)
    if verdict.consent is RollbackConsent.EMERGENCY:
        journal.record_event(
            ROLLBACK_EMERGENCY,
            undoes=subject.undoes,
            version=subject.target,
            origin=subject.origin,
            reason=request.emergency_reason,
            by=request.actor.name,
            uid=request.actor.uid,
        )
    return verdict


def require_loss_accepted(subject: RollbackSubject, count: int) -> None:
    """Refuse a data loss above the one that all approvers accept.

    Raises:
        DATA_LOSS_ABOVE_APPROVAL: If so.
    """
    if count > subject.accepted_loss:
        raise UpdaterError(
            DATA_LOSS_ABOVE_APPROVAL,
            version=subject.target,
            who=subject.approver_names or LazyText(N_("nobody")),
            agreed=subject.accepted_loss,
            count=count,
        )


def choose_acceptance_command(needed: int, approved_loss: int, count: int) -> str:
    """Return the command that accepts a data loss next. Pure.

    Args:
        needed: The required number of approvals.
        approved_loss: The number of lost records that enough approvers accept.
        count: The number of lost records.
    """
    return "approve --rollback" if needed > 1 and approved_loss < count else "rollback"


def format_accept_loss_option(count: int) -> str:
    """Format the command option that accepts a data loss; empty if there is none."""
    return f" --accept-loss {count}" if count else ""


def read_rollback_request(journal: Journal, number: int) -> RollbackRequest:
    """Return the request behind a rollback job of the service.

    Raises:
        NOTHING_TO_ROLL_BACK: If there is no such job.
    """
    job = JobQueue(journal).find(number)
    if job is None or job.kind is not JobKind.ROLLBACK:
        raise UpdaterError(NOTHING_TO_ROLL_BACK)
    emergency = job.data.get("emergency_reason")
    return RollbackRequest(
        job.actor,
        job.data.get("by_approver") is True,
        str(emergency) if emergency is not None else None,
        read_accepted_loss(job.data),
    )


class RollbackConsent(StrEnum):
    """Reason why a rollback may begin, or that approvals are missing."""

    NOT_REQUIRED = "not-required"
    REQUESTED_BY_APPROVER = "requested-by-approver"
    APPROVED = "approved"
    EMERGENCY = "emergency"
    MISSING = "missing"


@dataclass(frozen=True)
class RollbackVerdict:
    """Decision whether a rollback may begin.

    Attributes:
        consent: The reason.
        missing: The number of missing approvals.
    """

    consent: RollbackConsent
    missing: int = 0

    def __bool__(self) -> bool:
        """Tell whether the rollback may begin."""
        return self.consent is not RollbackConsent.MISSING


def decide_rollback(
    *, in_soak: bool, needed: int, approvals: int, approver: bool, emergency: bool
) -> RollbackVerdict:
    """Decide whether a rollback may begin.

    Args:
        in_soak: Whether the upgrade is in its soak period, or a change is stuck.
        needed: The number of approvals that the site requires.
        approvals: The number of approvals of this rollback.
        approver: Whether the actor is an approver; if one approval is enough, the request counts as
            it.
        emergency: Whether the actor declares an emergency.
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
    """Return the binding of a rollback's approvals: of this upgrade, and of no other.

    Args:
        undoes: The upgrade that is undone.
        origin: The installed release.
        target: The release to which the rollback leads.
    """
    parts = {"rollback": undoes, "from": origin, "to": target}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
